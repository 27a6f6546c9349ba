// Needs /dev/kvm: the pins are those of its IO-APIC.
#include "vmm/interrupts.h"

#include <gtest/gtest.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <optional>
#include <thread>
#include <vector>

namespace wick::vmm {
namespace {

constexpr uint32_t kPin = 19;

class SharedPinTest : public testing::Test {
 protected:
  void SetUp() override {
    auto kvm = Kvm::open();
    if (!kvm) GTEST_SKIP() << kvm.error().message();
    kvm_.emplace(*std::move(kvm));
    vm_.emplace(Vm::create(*kvm_).value());
    pin_.emplace(*vm_, kPin);
  }

  // The IO-APIC's IRR: set by an edge; for a level, the state of the line.
  bool high() const {
    kvm_irqchip chip{};
    chip.chip_id = KVM_IRQCHIP_IOAPIC;
    EXPECT_EQ(::ioctl(vm_->fd(), KVM_GET_IRQCHIP, &chip), 0);
    return (chip.chip.ioapic.irr >> kPin & 1) != 0;
  }

  std::optional<Kvm> kvm_;
  std::optional<Vm> vm_;
  std::optional<SharedPin> pin_;
};

TEST_F(SharedPinTest, IsHighWhileAnyDeviceWantsIt) {
  const auto one = pin_->connect();
  const auto other = pin_->connect();
  EXPECT_FALSE(high());
  one->set(true);
  EXPECT_TRUE(high());
  other->set(true);
  one->set(false);
  EXPECT_TRUE(high()) << "the other still wants it";
  other->set(false);
  EXPECT_FALSE(high());
}

TEST_F(SharedPinTest, CountsADeviceOnce) {
  const auto one = pin_->connect();
  const auto other = pin_->connect();
  one->set(true);
  one->set(true);
  one->set(false);
  EXPECT_FALSE(high());
  other->set(false);
  one->set(false);
  other->set(true);
  EXPECT_TRUE(high());
  one->pulse();
  EXPECT_TRUE(high());
  other->set(false);
  EXPECT_FALSE(high());
}

TEST_F(SharedPinTest, ServesSeveralThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (int device = 0; device < 3; ++device) {
    threads.emplace_back([line = pin_->connect()] {
      for (int i = 0; i < 500; ++i) {
        line->set(true);
        line->set(false);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(high());
}

}  // namespace
}  // namespace wick::vmm
