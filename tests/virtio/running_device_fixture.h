// Test fixture: a running device in a PCI slot and on a loop of its own, and how a driver stops
// parts of it.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/event_loop.h"
#include "tests/fakes/await_used.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/plugged_device.h"
#include "tests/fakes/wait_for.h"

namespace wick::virtio {

using fakes::FakeDriver;
using fakes::memory_of;
using fakes::PciDriver;
using fakes::wait_for;
using Bytes = std::vector<std::byte>;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr uint64_t kQueueBytes = 0x80000;  // memory for the ring and the buffers of a queue

// A driver for the device that the derived fixture makes.
class RunningDevice : public testing::Test {
 protected:
  RunningDevice() {
    memory_.emplace(memory_of(kRamBytes));
    thread_ = LoopThread::start("device-test").value();
  }
  // A derived fixture calls this before it destroys its device.
  void unplug() {
    if (plugged_) regs().reset();
    plugged_.reset();
    thread_->stop();
  }

  void plug(VirtioDevice& device) {
    plugged_ = std::make_unique<fakes::OnPci>(device, *memory_);
    queues_ = device.queue_max_sizes().size();
  }
  void start() {
    drivers_.clear();
    ASSERT_EQ(regs().negotiate(regs().device_features() & ~feature_bit(VIRTIO_RING_F_EVENT_IDX)),
              PciDriver::kFeaturesOk);
    for (uint16_t i = 0; i < queues_; ++i) {
      drivers_.emplace_back(*memory_, options(i, 16));
      regs().set_queue(i, drivers_.back().layout());
    }
    regs().set_status(PciDriver::kDriverOk);
    EXPECT_EQ(regs().status() & ~PciDriver::kNeedsReset, PciDriver::kDriverOk);
  }
  // Makes a ring of another size, at another address if `moved`.
  static FakeDriver::Options options(uint16_t index, uint16_t size, bool moved = false) {
    return {.size = size,
            .base = {0x10000 + index * kQueueBytes + (moved ? kQueueBytes / 2 : 0)},
            .buffer_area_bytes = 0x30000};
  }
  // Resets the queue and starts it again, as Linux does for `ethtool -G`.
  void replace_queue(uint16_t index, uint16_t size, bool moved = true) {
    regs().reset_queue(index);
    EXPECT_FALSE(regs().queue_in_reset(index));
    EXPECT_FALSE(regs().queue_ready(index));
    FakeDriver& driver = drivers_[index];
    std::destroy_at(&driver);
    std::construct_at(&driver, *memory_, options(index, size, moved));
    regs().set_queue(index, driver.layout());
    EXPECT_TRUE(regs().queue_ready(index));
    EXPECT_EQ(regs().status(), PciDriver::kDriverOk);
  }

  EventLoop& loop() { return thread_->loop(); }
  const PciDriver& regs() const { return plugged_->driver(); }
  FakeDriver& queue(uint16_t index) { return drivers_[index]; }
  void settle() {
    for (int i = 0; i < 20; ++i) loop().call([] {});
  }
  // Reads guest memory on the device's loop.
  Bytes ram() {
    Bytes copy;
    loop().call([&] {
      const auto all = memory_->slice({0}, kRamBytes).value();
      copy.assign(all.begin(), all.end());
    });
    return copy;
  }
  FakeDriver::Used take_used(uint16_t index) { return fakes::await_used(queue(index)); }
  // Returns true if the device does not change guest memory, whatever was requested.
  bool leaves_memory_alone() {
    const Bytes before = ram();
    settle();
    return ram() == before;
  }
  // Clears and sets the bit, as when one kernel ends and the next begins. The device must not
  // touch the first kernel's rings until it was reset and started again.
  void expect_nothing_until_restarted() {
    regs().set_bus_master(true);
    for (uint16_t i = 0; i < queues_; ++i) regs().kick(i);
    EXPECT_TRUE(leaves_memory_alone());
    EXPECT_NE(regs().status() & PciDriver::kNeedsReset, 0);
    regs().reset();
    EXPECT_TRUE(leaves_memory_alone());
    start();
  }
  static bool untouched(std::span<const std::byte> buffer) {
    return std::ranges::all_of(buffer, [](std::byte b) { return b == std::byte{0xee}; });
  }

  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<fakes::OnPci> plugged_;
  std::deque<FakeDriver> drivers_;
  size_t queues_ = 0;
};

}  // namespace wick::virtio
