// Tests how a driver stops parts of a running device: all access to guest memory, by the
// Bus Master bit (PCI 3.0, 6.2.2), or one queue, by its reset (virtio 1.2, 2.6.1). Each
// device is in a PCI slot and on a loop of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/fakes/fake_console.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/fake_network.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/plugged_device.h"
#include "tests/fakes/wait_for.h"
#include "virtio/balloon.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/rng.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::MemoryBackend;
using fakes::PciDriver;
using fakes::wait_for;
using Bytes = std::vector<std::byte>;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr uint64_t kQueueBytes = 0x80000;  // memory for the ring and the buffers of a queue

// A driver for the device that the derived fixture makes.
class RunningDevice : public testing::Test {
 protected:
  RunningDevice() {
    const std::array ranges = {GuestMemory::Range{{0}, kRamBytes}};
    memory_.emplace(GuestMemory::create(ranges).value());
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
  FakeDriver::Used take_used(uint16_t index) {
    std::optional<FakeDriver::Used> used;
    EXPECT_TRUE(wait_for([&] { return (used = queue(index).take_used()).has_value(); }));
    return used.value_or(FakeDriver::Used{~0u, ~0u});
  }
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

// --- disks ---

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

// --- network cards ---

class RunningCard : public RunningDevice {
 protected:
  static constexpr uint16_t kReceive = 0;
  static constexpr uint16_t kTransmit = 1;

  RunningCard() {
    card_ = Net::create(network_, loop(), {0x52, 0x54, 0, 0x12, 0x34, 0x56}, {}, "net0").value();
    plug(*card_);
    start();
  }
  ~RunningCard() override { unplug(); }

  FakeDriver::Request post() {
    const auto request = queue(kReceive).chain().writable(2048).publish();
    regs().kick(kReceive);
    return request;
  }
  void arrive() {
    loop().call([&] { network_.arrive({.header = {}, .frame = Bytes(100)}); });
  }
  FakeDriver::Request send() {
    const Bytes packet(sizeof(net::PacketHeader) + 100);
    const auto request = queue(kTransmit).chain().readable(packet).publish();
    regs().kick(kTransmit);
    return request;
  }
  size_t sent() {
    size_t count = 0;
    loop().call([&] { count = network_.sent.size(); });
    return count;
  }
  size_t waiting() {
    size_t count = 0;
    loop().call([&] { count = network_.waiting(); });
    return count;
  }

  fakes::FakeNetwork network_;
  std::unique_ptr<Net> card_;
};

// A packet must not be written to the buffers of the kernel that ran before.
TEST_F(RunningCard, ReceivesNothingWithoutTheBusMaster) {
  const auto buffer = post();
  regs().set_bus_master(false);
  arrive();
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(buffer.writable[0]));
  expect_nothing_until_restarted();
  EXPECT_TRUE(untouched(buffer.writable[0]));
  const auto again = post();
  arrive();
  EXPECT_EQ(take_used(kReceive).head, again.head);
}

TEST_F(RunningCard, SendsNothingWithoutTheBusMaster) {
  regs().set_bus_master(false);
  (void)send();
  EXPECT_TRUE(leaves_memory_alone());
  expect_nothing_until_restarted();
  EXPECT_EQ(sent(), 0u);
  const auto again = send();
  EXPECT_EQ(take_used(kTransmit).head, again.head);
  EXPECT_EQ(sent(), 1u);
}

TEST_F(RunningCard, ReceivesAndSendsOnRingsThatWereReplaced) {
  for (const uint16_t size : std::to_array<uint16_t>({64, 256, 1, 16})) {
    (void)post();  // the reset returns this chain
    replace_queue(kReceive, size, size != 16);
    replace_queue(kTransmit, size, size != 16);
    arrive();
    const auto buffer = post();
    EXPECT_EQ(take_used(kReceive), (FakeDriver::Used{buffer.head, 112}));
    const auto packet = send();
    EXPECT_EQ(take_used(kTransmit).head, packet.head);
  }
  EXPECT_EQ(sent(), 4u);
}

TEST_F(RunningCard, TouchesNoBufferOfAQueueThatWasReset) {
  const auto buffer = post();
  regs().reset_queue(kReceive);
  arrive();
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(buffer.writable[0]));
  const auto packet = send();
  EXPECT_EQ(take_used(kTransmit).head, packet.head) << "the other queue works";
}

TEST_F(RunningCard, TheControlQueueStartsAgainToo) {
  constexpr uint16_t kControl = 2;
  replace_queue(kControl, 8);
  const std::array<std::byte, 3> promiscuous{};
  const auto request = queue(kControl).chain().readable(promiscuous).writable(1).publish();
  regs().kick(kControl);
  EXPECT_EQ(take_used(kControl).head, request.head);
  EXPECT_EQ(request.writable[0][0], std::byte{VIRTIO_NET_OK});
}

// Packets arrive all the time while the rings are replaced.
TEST_F(RunningCard, ReplacesRingsUnderTraffic) {
  std::atomic<bool> done = false;
  std::thread network([&] {
    while (!done) {
      arrive();
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 100; ++i) {
    for (int n = 0; n < 4; ++n) (void)post();
    (void)take_used(kReceive);
    (void)send();
    replace_queue(kReceive, i % 3 == 0 ? 32 : 16, i % 2 == 0);
    replace_queue(kTransmit, i % 3 == 0 ? 32 : 16, i % 2 == 0);
    const auto packet = send();
    EXPECT_EQ(take_used(kTransmit).head, packet.head);
  }
  done = true;
  network.join();
}

// --- console, random numbers, balloon ---

class RunningConsole : public RunningDevice {
 protected:
  RunningConsole() {
    plug(console_);
    start();
  }
  ~RunningConsole() override { unplug(); }

  size_t type(std::string_view text) {
    size_t taken = 0;
    loop().call([&] { taken = host_.type(text); });
    return taken;
  }
  FakeDriver::Request post() {
    const auto request = queue(0).chain().writable(64).publish();
    regs().kick(0);
    return request;
  }
  FakeDriver::Request print(std::string_view text) {
    const auto request = queue(1).chain().readable(text).publish();
    regs().kick(1);
    return request;
  }

  fakes::FakeConsole host_;
  Console console_{loop(), {{.backend = host_}}};
};

TEST_F(RunningConsole, TakesAndGivesNothingWithoutTheBusMaster) {
  (void)post();
  regs().set_bus_master(false);
  (void)print("hello");
  EXPECT_EQ(type("typed"), 0u);
  EXPECT_TRUE(leaves_memory_alone());
  expect_nothing_until_restarted();
  EXPECT_EQ(host_.output(), "");
  const auto line = print("hello");
  EXPECT_EQ(take_used(1).head, line.head);
  EXPECT_EQ(host_.output(), "hello");
  const auto buffer = post();
  EXPECT_TRUE(wait_for([&] { return host_.times_wanted() == 1; })) << "for what was refused";
  EXPECT_EQ(type("typed"), 5u);
  EXPECT_EQ(take_used(0), (FakeDriver::Used{buffer.head, 5}));
}

TEST_F(RunningConsole, ItsQueuesStartAgain) {
  (void)post();
  replace_queue(0, 8);
  replace_queue(1, 4);
  EXPECT_EQ(type("typed"), 0u) << "the buffer is gone";
  const auto buffer = post();
  EXPECT_TRUE(wait_for([&] { return host_.times_wanted() == 1; }));
  EXPECT_EQ(type("typed"), 5u);
  EXPECT_EQ(take_used(0).head, buffer.head);
  const auto line = print("hello");
  EXPECT_EQ(take_used(1).head, line.head);
  EXPECT_EQ(host_.output(), "hello");
}

class RunningRng : public RunningDevice {
 protected:
  RunningRng() {
    plug(*rng_);
    start();
  }
  ~RunningRng() override { unplug(); }
  FakeDriver::Request ask() {
    const auto request = queue(0).chain().writable(64).publish();
    regs().kick(0);
    return request;
  }
  std::unique_ptr<Rng> rng_ = Rng::create(loop(), "").value();
};

TEST_F(RunningRng, FillsNothingWithoutTheBusMaster) {
  regs().set_bus_master(false);
  const auto request = ask();
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(request.writable[0]));
  expect_nothing_until_restarted();
  EXPECT_EQ(take_used(0).head, ask().head);
}

TEST_F(RunningRng, ItsQueueStartsAgain) {
  replace_queue(0, 64);
  EXPECT_EQ(take_used(0).head, ask().head);
}

class RunningBalloon : public RunningDevice {
 protected:
  static constexpr uint16_t kReporting = 2;
  static constexpr GuestAddress kFree{0x300000};

  RunningBalloon() {
    plug(balloon_);
    start();
    std::ranges::fill(free_pages(), std::byte{0xaa});
  }
  ~RunningBalloon() override { unplug(); }
  std::span<std::byte> free_pages() { return memory_->slice(kFree, 4096).value(); }
  FakeDriver::Request report() {
    const auto request = queue(kReporting).chain().writable_at(kFree, 4096).publish();
    regs().kick(kReporting);
    return request;
  }
  Balloon balloon_{*memory_, loop()};
};

TEST_F(RunningBalloon, TakesNoMemoryWithoutTheBusMaster) {
  regs().set_bus_master(false);
  (void)report();
  EXPECT_TRUE(leaves_memory_alone());
  expect_nothing_until_restarted();
  EXPECT_EQ(free_pages()[0], std::byte{0xaa});
  EXPECT_EQ(take_used(kReporting).head, report().head);
  EXPECT_EQ(free_pages()[0], std::byte{0});
}

TEST_F(RunningBalloon, ItsQueueStartsAgain) {
  replace_queue(kReporting, 8);
  EXPECT_EQ(take_used(kReporting).head, report().head);
}

}  // namespace
}  // namespace wick::virtio
