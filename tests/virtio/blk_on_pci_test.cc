// Tests virtio-blk behind virtio-pci.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "tests/fakes/memory_backend.h"
#include "tests/fakes/wait_for.h"
#include "tests/virtio/pci_fixture.h"
#include "virtio/blk.h"

namespace wick::virtio {
namespace {

using fakes::wait_for;
using testing::ElementsAre;
using testing::IsEmpty;

class BlkOnPci : public testing::Test {
 protected:
  BlkOnPci() {
    on_loop([&] { disk_.set_delay(fakes::MemoryBackend::Delay::kHeld); });
  }
  ~BlkOnPci() override {
    on_loop([&] {
      disk_.set_delay(fakes::MemoryBackend::Delay::kNone);
      disk_.release_all();
    });
    plugged_->transport().power_off();
    thread_->stop();
  }

  const PciDriver& regs() const { return plugged_->driver(); }
  void on_loop(const std::function<void()>& function) { thread_->loop().call(function); }
  void start() {
    ASSERT_TRUE(regs().start(driver_.layout()));
    regs().set_vector(1, kSecond, false);
    regs().set_msix(PciDriver::kMsixEnable);
    ASSERT_EQ(regs().set_queue_vector(0, 1), 1u);
  }
  // Publishes requests, which the disk holds.
  void publish(int count) {
    for (int i = 0; i < count; ++i)
      driver_.chain().readable(std::string(16, '\0')).writable(512).writable(1).publish();
    regs().kick(0);
    ASSERT_TRUE(wait_for([&] { return disk_.calls().held == count; }));
  }
  // Expects that `end` returns only after the last of two requests is done.
  void expect_to_wait_for_requests(const std::function<void()>& end) {
    start();
    publish(2);
    std::atomic<bool> returned = false;
    std::thread guest([&] {
      end();
      returned = true;
    });
    on_loop([&] { disk_.release_oldest(); });
    on_loop([] {});
    EXPECT_FALSE(returned);
    on_loop([&] { disk_.release_oldest(); });
    EXPECT_TRUE(wait_for([&] { return returned.load(); }));
    guest.join();
    EXPECT_EQ(driver_.used_index(), 2);
    EXPECT_EQ(regs().status(), 0u);
    (void)plugged_->sink().take();
    on_loop([] {});
    EXPECT_THAT(plugged_->sink().take(), IsEmpty());
  }

  GuestMemory memory_ = memory_of(8 << 20);
  FakeDriver driver_{memory_, {.size = 64}};
  std::unique_ptr<LoopThread> thread_ = LoopThread::start("disk-test").value();
  fakes::MemoryBackend disk_{thread_->loop(), 1 << 20};
  Blk blk_{disk_, thread_->loop(), "serial", "vda"};
  std::unique_ptr<OnPci> plugged_ = std::make_unique<OnPci>(blk_, memory_);
};

TEST_F(BlkOnPci, SendsAMessageForEachCompletion) {
  start();
  publish(2);
  for (int i = 0; i < 2; ++i) {
    on_loop([&] { disk_.release_oldest(); });
    on_loop([] {});  // the round has ended
    EXPECT_THAT(plugged_->sink().take(), ElementsAre(kSecond));
  }
  EXPECT_EQ(plugged_->line().sets(), 0);
}

TEST_F(BlkOnPci, TellsItsCapacity) {
  EXPECT_EQ(regs().config(0, 4), (1u << 20) / 512);
  EXPECT_EQ(regs().device_id(), 2u);
  EXPECT_EQ(regs().space(8, 4) >> 8, 0x018000u) << "mass storage";
}

TEST_F(BlkOnPci, ResetWaitsForRequestsInFlight) {
  expect_to_wait_for_requests([&] { regs().reset(); });
}

TEST_F(BlkOnPci, ResetThroughTheConfigurationSpaceWaitsToo) {
  expect_to_wait_for_requests([&] {
    const uint32_t common = regs().find(VIRTIO_PCI_CAP_COMMON_CFG).offset;
    regs().set_space(regs().aim(common + VIRTIO_PCI_COMMON_STATUS, 1), 0, 1);
  });
}

TEST_F(BlkOnPci, PowerOffWaitsForRequestsInFlight) {
  expect_to_wait_for_requests([&] { plugged_->transport().power_off(); });
}

// The same disk is used in the machine after a reset of the machine.
TEST_F(BlkOnPci, ServesTheNextMachine) {
  for (int life = 0; life < 20; ++life) {
    start();
    publish(1);
    on_loop([&] { disk_.release_all(); });
    EXPECT_EQ(driver_.used_index(), 1);
    plugged_->transport().power_off();
    plugged_ = std::make_unique<OnPci>(blk_, memory_);
    driver_.forget();
  }
}

// Requests continue while the guest moves the BARs.
TEST_F(BlkOnPci, WorksOnWhileItsBarsMove) {
  start();
  publish(2);
  const uint64_t start = regs().bar(0);
  for (uint64_t i = 1; i < 8; ++i) {
    regs().set_space(PciDriver::kBars, start + i * 0x4000, 4);
    regs().set_space(PciDriver::kBars, 0xffffffff, 4);
  }
  on_loop([&] { disk_.release_all(); });
  EXPECT_EQ(driver_.used_index(), 2);
  on_loop([] {});  // the round has ended
  EXPECT_THAT(plugged_->sink().take(), ElementsAre(kSecond));
  regs().set_space(PciDriver::kBars, start, 4);
  publish(1);
}

}  // namespace
}  // namespace wick::virtio
