// Tests how a driver stops parts of a running disk: all access to guest memory, by the
// Bus Master bit (PCI 3.0, 6.2.2), or one queue, by its reset (virtio 1.2, 2.6.1).
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/fakes/memory_backend.h"
#include "tests/virtio/running_device_fixture.h"
#include "virtio/blk.h"

namespace wick::virtio {
namespace {

using fakes::MemoryBackend;

class RunningDisk : public RunningDevice {
 protected:
  RunningDisk() {
    plug(blk_);
    start();
  }
  ~RunningDisk() override {
    set_delay(MemoryBackend::Delay::kNone);
    unplug();
  }
  void set_delay(MemoryBackend::Delay delay) {
    loop().call([&] {
      disk_.set_delay(delay);
      if (delay != MemoryBackend::Delay::kHeld) disk_.release_all();
    });
  }
  void release_oldest() {
    loop().call([&] { disk_.release_oldest(); });
  }
  FakeDriver::Request read_from(uint16_t index) {
    std::array<std::byte, 16> header{};
    const auto request = queue(index).chain().readable(header).writable(512).writable(1).publish();
    regs().kick(index);
    return request;
  }
  bool await_reads(int count) {
    return wait_for([&] { return disk_.calls().reads == count; });
  }
  static bool succeeded(const FakeDriver::Request& request) {
    return request.writable[1][0] == std::byte{VIRTIO_BLK_S_OK};
  }

  MemoryBackend disk_{loop(), 1 << 20};
  Blk blk_{disk_, loop(), "serial", "vda", 2};
};

TEST_F(RunningDisk, FinishesWhatIsInFlightBeforeTheBusMasterIsOff) {
  set_delay(MemoryBackend::Delay::kHeld);
  const auto first = read_from(0);
  const auto second = read_from(1);
  ASSERT_TRUE(await_reads(2));
  std::atomic<bool> returned = false;
  std::thread guest([&] {
    regs().set_bus_master(false);
    returned = true;
  });
  release_oldest();
  settle();
  EXPECT_FALSE(returned);
  release_oldest();
  EXPECT_TRUE(wait_for([&] { return returned.load(); }));
  guest.join();
  EXPECT_TRUE(succeeded(first));
  EXPECT_TRUE(succeeded(second));
}

TEST_F(RunningDisk, TakesNoRequestWithoutTheBusMaster) {
  regs().set_bus_master(false);
  const auto request = read_from(0);
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(request.writable[0]));
  expect_nothing_until_restarted();
  EXPECT_EQ(disk_.calls().reads, 0);
  const auto again = read_from(0);
  EXPECT_EQ(take_used(0).head, again.head);
  EXPECT_TRUE(succeeded(again));
}

TEST_F(RunningDisk, AResetWithoutTheBusMasterLeavesNothingBehind) {
  regs().set_bus_master(false);
  (void)read_from(0);
  regs().reset();
  regs().set_bus_master(true);
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_EQ(disk_.calls().reads, 0);
  start();
  const auto request = read_from(0);
  EXPECT_EQ(take_used(0).head, request.head);
}

TEST_F(RunningDisk, StartsWithoutTheBusMasterAndWorksWhenItHasIt) {
  regs().reset();
  regs().set_bus_master(false);
  start();
  const auto request = read_from(1);
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_EQ(disk_.calls().reads, 0);
  regs().set_bus_master(true);
  EXPECT_EQ(take_used(1).head, request.head);
}

// Requests in flight are complete when the write that clears the bit has returned.
TEST_F(RunningDisk, TheBusMasterGoesUnderTraffic) {
  set_delay(MemoryBackend::Delay::kNextRound);
  for (int i = 0; i < 300; ++i) {
    for (int n = 0; n < 4; ++n) (void)read_from(0);
    regs().set_bus_master(false);
    const uint16_t used = queue(0).used_index();
    (void)read_from(0);
    loop().call([] {});
    regs().set_bus_master(true);
    regs().kick(0);
    loop().call([] {});
    EXPECT_EQ(queue(0).used_index(), used);
    regs().reset();
    start();
  }
}

// One vCPU changes the bit while another writes the device status.
TEST_F(RunningDisk, TheBusMasterComesAndGoesDuringResets) {
  std::thread other([&] {
    for (int i = 0; i < 300; ++i) regs().set_bus_master(i % 2 != 0);
  });
  for (int i = 0; i < 100; ++i) {
    start();
    (void)read_from(0);
    regs().reset();
  }
  other.join();
  regs().set_bus_master(true);
  regs().reset();
  start();
  ASSERT_EQ(regs().status(), PciDriver::kDriverOk);
  const auto request = read_from(0);
  EXPECT_EQ(take_used(0).head, request.head);
}

TEST_F(RunningDisk, AResetOfAQueueWaitsForItsRequestsAndNoOthers) {
  set_delay(MemoryBackend::Delay::kHeld);
  const auto kept = read_from(0);
  ASSERT_TRUE(await_reads(1));
  regs().reset_queue(1);  // the device has no queue 1
  EXPECT_FALSE(regs().queue_ready(1));
  EXPECT_EQ(queue(0).used_index(), 0);

  std::atomic<bool> returned = false;
  std::thread guest([&] {
    regs().reset_queue(0);
    returned = true;
  });
  settle();
  EXPECT_FALSE(returned);
  release_oldest();
  EXPECT_TRUE(wait_for([&] { return returned.load(); }));
  guest.join();
  EXPECT_TRUE(succeeded(kept));
  queue(0).forget();  // the driver may reuse the memory now
  EXPECT_TRUE(leaves_memory_alone());
}

TEST_F(RunningDisk, AQueueStartsAgainInAnotherSizeUnderTrafficOfTheOther) {
  set_delay(MemoryBackend::Delay::kNextRound);
  for (const uint16_t size : std::to_array<uint16_t>({8, 64, 512, 4, 16})) {
    const auto before = read_from(1);
    replace_queue(0, size, size != 16);
    const auto request = read_from(0);
    EXPECT_EQ(take_used(0).head, request.head);
    EXPECT_TRUE(succeeded(request));
    EXPECT_EQ(take_used(1).head, before.head);
  }
}

// The broken queue is the one that is reset.
TEST_F(RunningDisk, AResetForgetsABrokenRingButNotThatTheDeviceNeedsOne) {
  queue(0).set_available_index(1000);
  regs().kick(0);
  EXPECT_TRUE(wait_for([&] { return (regs().status() & PciDriver::kNeedsReset) != 0; }));
  regs().reset_queue(0);
  EXPECT_NE(regs().status() & PciDriver::kNeedsReset, 0u);
  const auto request = read_from(1);
  EXPECT_EQ(take_used(1).head, request.head) << "the other works";
}

}  // namespace
}  // namespace wick::virtio
