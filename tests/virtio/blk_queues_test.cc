// Tests a virtio-blk device with several queues, and one whose disk changes its size.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <thread>

#include "base/bytes.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fakes/wait_for.h"
#include "virtio/blk.h"
#include "virtio/mmio.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::memory_of;
using fakes::MemoryBackend;
using fakes::MmioDriver;
using fakes::wait_for;

constexpr uint16_t kQueues = 4;
constexpr uint16_t kRingSize = 256;
constexpr uint64_t kDiskBytes = 1 << 20;
constexpr uint64_t kCapacityOffset = 0;
constexpr uint64_t kNumQueuesOffset = 34;

class BlkQueues : public testing::Test {
 protected:
  BlkQueues() {
    memory_.emplace(memory_of(8 << 20));
    thread_ = LoopThread::start("disk-test").value();
    disk_ = std::make_unique<MemoryBackend>(loop(), kDiskBytes);
    blk_ = std::make_unique<Blk>(*disk_, loop(), "serial", "vda", kQueues);
    transport_ = MmioTransport::create(*blk_, *memory_, line_, "vda").value();
    registers_.emplace(*transport_);
  }
  ~BlkQueues() override {
    loop().call([&] {
      disk_->set_delay(MemoryBackend::Delay::kNone);
      disk_->release_all();
    });
    regs().reset();
    thread_->stop();
  }

  // Starts the device with the first `queues` of its queues.
  void start(uint16_t queues) {
    ASSERT_EQ(regs().negotiate(regs().device_features() & ~feature_bit(VIRTIO_RING_F_EVENT_IDX)),
              MmioDriver::kFeaturesOk);
    drivers_.clear();
    for (uint16_t i = 0; i < queues; ++i) {
      drivers_.emplace_back(*memory_, FakeDriver::Options{.size = kRingSize,
                                                          .base = {0x10000 + i * 0x100000ull},
                                                          .buffer_area_bytes = 0x80000});
      regs().set_queue(i, drivers_.back().layout());
    }
    regs().set_status(MmioDriver::kDriverOk);
    ASSERT_EQ(regs().status(), MmioDriver::kDriverOk);
  }

  FakeDriver::Request publish_read(uint16_t queue, uint64_t sector) {
    std::array<std::byte, 16> header{};
    store_le(std::span(header).subspan(8), sector);
    auto request = drivers_[queue].chain().readable(header).writable(512).writable(1).publish();
    regs().kick(queue);
    return request;
  }
  bool used(uint16_t queue, const FakeDriver::Request& request) {
    return wait_for([&] {
      const auto used = drivers_[queue].take_used();
      return used && used->head == request.head && request.writable.back().back() == std::byte{0};
    });
  }
  void hold() {
    loop().call([&] { disk_->set_delay(MemoryBackend::Delay::kHeld); });
  }
  bool held(int count) {
    return wait_for([&] { return disk_->calls().held == count; });
  }

  EventLoop& loop() { return thread_->loop(); }
  const MmioDriver& regs() const { return *registers_; }

  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  fakes::CountingLine line_;
  std::unique_ptr<MemoryBackend> disk_;
  std::unique_ptr<Blk> blk_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
  std::deque<FakeDriver> drivers_;
};

TEST_F(BlkQueues, AreAllOffered) {
  EXPECT_NE(regs().device_features() & 1ull << VIRTIO_BLK_F_MQ, 0u);
  EXPECT_EQ(regs().config(kNumQueuesOffset, 2), kQueues);
  for (uint32_t i = 0; i < kQueues; ++i) EXPECT_EQ(regs().queue_max_size(i), 512u);
  EXPECT_EQ(regs().queue_max_size(kQueues), 0u);
}

TEST_F(BlkQueues, EachAnswersItsOwnRequests) {
  for (size_t i = 0; i < kDiskBytes; ++i) disk_->bytes()[i] = static_cast<std::byte>(i / 512);
  start(kQueues);
  hold();
  std::vector<FakeDriver::Request> requests;
  for (uint16_t i = 0; i < kQueues; ++i) requests.push_back(publish_read(i, 100u + i));
  ASSERT_TRUE(held(kQueues));
  for (uint16_t i = kQueues; i-- > 0;) {  // the last one first
    loop().call([&] { disk_->release_newest(); });
    ASSERT_TRUE(used(i, requests[i]));
    EXPECT_EQ(requests[i].writable.front().front(), static_cast<std::byte>(100 + i));
  }
}

TEST_F(BlkQueues, NeedNotAllBeUsed) {
  for (const uint16_t count : {uint16_t{1}, uint16_t{2}}) {
    start(count);
    const auto last = static_cast<uint16_t>(count - 1);
    EXPECT_TRUE(used(last, publish_read(last, 3)));
    regs().kick(kQueues - 1);  // kicking a queue that was not set up does nothing
    EXPECT_TRUE(used(last, publish_read(last, 4)));
  }
}

TEST_F(BlkQueues, AreEmptyWhenAResetReturns) {
  start(kQueues);
  hold();
  for (uint16_t i = 0; i < kQueues; ++i) (void)publish_read(i, i);
  ASSERT_TRUE(held(kQueues));
  std::jthread releaser([&] { loop().post([&] { disk_->release_all(); }); });
  regs().reset();
  EXPECT_EQ(disk_->calls().held, 0);
  loop().call([&] { disk_->set_delay(MemoryBackend::Delay::kNone); });
  start(1);
  EXPECT_TRUE(used(0, publish_read(0, 5)));
}

// A request may hold 2 MiB of the host's memory, so the number of requests is bounded.
TEST_F(BlkQueues, TakeTurnsWhenThereAreTooManyRequests) {
  constexpr int kEach = kRingSize / 3;  // descriptors of a request
  constexpr int kMaxInFlight = 256;
  start(kQueues);
  hold();
  std::array<std::vector<FakeDriver::Request>, kQueues> requests;
  for (int i = 0; i < kEach; ++i)
    for (uint16_t queue = 0; queue < kQueues; ++queue)
      requests[queue].push_back(publish_read(queue, static_cast<uint64_t>(i)));
  ASSERT_TRUE(held(kMaxInFlight));
  loop().call([] {});
  EXPECT_EQ(disk_->calls().held, kMaxInFlight);
  EXPECT_EQ(disk_->calls().reads, kMaxInFlight);
  // All are served eventually, without another kick.
  loop().call([&] {
    disk_->set_delay(MemoryBackend::Delay::kNextRound);
    disk_->release_all();
  });
  EXPECT_TRUE(wait_for([&] { return disk_->calls().reads == kEach * kQueues; }));
  for (uint16_t queue = 0; queue < kQueues; ++queue)
    for (const FakeDriver::Request& request : requests[queue]) EXPECT_TRUE(used(queue, request));
}

TEST_F(BlkQueues, OneThatIsBrokenStopsAtThat) {
  start(2);
  drivers_[0].make_available(65535);  // no such descriptor
  regs().kick(0);
  EXPECT_TRUE(wait_for([&] { return (regs().status() & MmioDriver::kNeedsReset) != 0; }));
}

TEST_F(BlkQueues, TellOfADiskThatGrew) {
  start(1);
  const uint32_t generation = regs().config_generation();
  EXPECT_EQ(regs().config(kCapacityOffset, 8), kDiskBytes / 512);
  loop().call([&] {
    disk_->set_size(2 * kDiskBytes);
    blk_->update_capacity();
  });
  EXPECT_EQ(regs().take_causes() & MmioDriver::kConfigCause, MmioDriver::kConfigCause);
  EXPECT_NE(regs().config_generation(), generation);
  EXPECT_EQ(regs().config(kCapacityOffset, 8), 2 * kDiskBytes / 512);
  EXPECT_TRUE(used(0, publish_read(0, kDiskBytes / 512 + 7)));
  loop().call([&] { blk_->update_capacity(); });
  EXPECT_EQ(regs().take_causes() & MmioDriver::kConfigCause, 0u);
}

TEST_F(BlkQueues, TellOfADiskThatGrewBeforeTheDriverWasReady) {
  start(1);
  regs().reset();
  loop().call([&] {
    disk_->set_size(2 * kDiskBytes);
    blk_->update_capacity();
  });
  start(1);
  EXPECT_EQ(regs().take_causes() & MmioDriver::kConfigCause, MmioDriver::kConfigCause);
}

TEST_F(BlkQueues, RefuseWhatIsBehindTheEndOfADiskThatShrank) {
  start(1);
  loop().call([&] {
    disk_->set_size(kDiskBytes / 2);
    blk_->update_capacity();
  });
  const auto request = publish_read(0, kDiskBytes / 512 - 1);
  EXPECT_TRUE(wait_for([&] { return drivers_[0].take_used().has_value(); }));
  EXPECT_EQ(request.writable.back().back(), std::byte{VIRTIO_BLK_S_IOERR});
}

}  // namespace
}  // namespace wick::virtio
