// Test fixture: a virtio-pci device, with a driver.
#pragma once

#include <gtest/gtest.h>

#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/plugged_device.h"
#include "tests/fakes/remembering_device.h"
#include "virtio/pci.h"

namespace wick::virtio {

using fakes::FakeDriver;
using fakes::memory_of;
using fakes::OnPci;
using fakes::PciDriver;
using Message = fakes::RecordingSink::Message;

constexpr uint32_t kNoVector = 0xffff;
constexpr uint16_t kInterruptStatus = 1 << 3;
constexpr Message kFirst{0xfee0'1000, 0x31};
constexpr Message kSecond{0xfee0'2000, 0x32};
constexpr Message kThird{0xfee0'3000, 0x33};

class PciTest : public testing::Test {
 protected:
  const PciDriver& regs() const { return plugged_.driver(); }
  PciTransport& transport() { return plugged_.transport(); }
  QueueLayout layout() const { return driver_.layout(); }
  std::vector<Message> messages() { return plugged_.sink().take(); }

  void negotiate() {
    ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1)), PciDriver::kFeaturesOk);
  }
  void start() {
    negotiate();
    regs().set_queue(0, layout());
    regs().set_queue(1, layout());
    regs().set_status(PciDriver::kDriverOk);
    ASSERT_EQ(regs().status(), PciDriver::kDriverOk);
  }
  // Sets up a vector for the configuration and one for each queue.
  void use_msix(uint16_t more = 0) {
    regs().set_vector(0, kFirst, false);
    regs().set_vector(1, kSecond, false);
    regs().set_vector(2, kThird, false);
    regs().set_msix(PciDriver::kMsixEnable | more);
    EXPECT_EQ(regs().set_config_vector(0), 0u);
    EXPECT_EQ(regs().set_queue_vector(0, 1), 1u);
    EXPECT_EQ(regs().set_queue_vector(1, 2), 2u);
  }
  bool interrupt_status() const {
    return (regs().space(PciDriver::kStatus, 2) & kInterruptStatus) != 0;
  }

  GuestMemory memory_ = memory_of(4 << 20);
  FakeDriver driver_{memory_, {.size = 16}};
  fakes::RememberingDevice device_;
  std::vector<std::pair<uint64_t, uint64_t>> moves_;
  OnPci plugged_{device_, memory_,
                 [this](uint64_t from, uint64_t to) { moves_.emplace_back(from, to); }};
};

}  // namespace wick::virtio
