// Tests the reset of virtio-blk (virtio 1.2, 2.4.1).
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "tests/virtio/blk_fixture.h"

namespace wick::virtio {
namespace {

TEST_F(BlkTest, ResetWaitsForRequestsInFlight) {
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  std::vector<FakeDriver::Request> requests;
  for (uint64_t i = 0; i < 3; ++i) requests.push_back(publish_read(i, 512));
  kick_until_held(3);

  std::atomic<bool> returned = false;
  std::thread guest([&] {
    regs().reset();
    returned = true;
  });
  // Two of three requests are done, so the reset must not return yet.
  on_loop([&] { disk_->release_oldest(); });
  on_loop([&] { disk_->release_oldest(); });
  on_loop([] {});
  EXPECT_FALSE(returned);
  on_loop([&] { disk_->release_oldest(); });
  EXPECT_TRUE(wait_for([&] { return returned.load(); }));
  guest.join();
  for (const auto& request : requests) EXPECT_EQ(status(request), VIRTIO_BLK_S_OK);
}

// However much the driver has requested, a reset waits for a few pieces only.
TEST_F(BlkTest, ResetWaitsForABoundedNumberOfBytesOfLongRequests) {
  constexpr uint64_t kLongBytes = 8 << 20;
  for (const uint32_t type : {VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_IN}) {
    disk_ = std::make_unique<MemoryBackend>(loop(), kLongBytes);
    disk_->set_zeroes_fast(false);
    attach(*disk_);
    set_driver({.size = 256});
    start();
    set_delay(MemoryBackend::Delay::kHeld);
    for (int i = 0; i < 64; ++i) {
      auto chain = driver_->chain();
      chain.readable(header(type, 0));
      if (type == VIRTIO_BLK_T_WRITE_ZEROES)
        chain.readable(segment(0, kLongBytes / 512, 0));
      else
        for (int j = 0; j < 8; ++j) chain.writable_at({6 << 20}, 1 << 20);
      chain.writable(1).indirect().publish();
    }
    kick();
    const auto& calls = disk_->calls();
    EXPECT_TRUE(wait_for([&] { return calls.held > 0; }));
    std::atomic<bool> returned = false;
    std::thread guest([&] {
      regs().reset();
      returned = true;
    });
    // The reset has begun once a request that needs no disk is not served any more.
    bool served = true;
    while (served) {
      (void)driver_->chain()
          .readable(header(VIRTIO_BLK_T_GET_ID, 0))
          .writable(20)
          .writable(1)
          .publish();
      transport_->kicks()[0].signal();
      for (int i = 0; i < 20; ++i) on_loop([] {});
      served = driver_->take_used().has_value();
    }
    EXPECT_FALSE(returned);
    const int in_flight = calls.zeroes + calls.reads;
    EXPECT_LE(in_flight, 8);  // of 2 MiB each
    while (!returned) on_loop([&] { disk_->release_all(); });
    guest.join();
    EXPECT_EQ(calls.zeroes + calls.reads, in_flight);  // and nothing of the rest
    set_delay(MemoryBackend::Delay::kNone);
  }
}

TEST_F(BlkTest, TouchesNoMemoryAfterReset) {
  start();
  set_delay(MemoryBackend::Delay::kNextRound);
  for (uint64_t i = 0; i < 32; ++i) publish_read(i, 4096);
  kick();
  regs().reset();
  // The device must not write to guest memory from now on.
  const auto ram = memory_->slice({0}, 8 << 20).value();
  std::ranges::fill(ram, std::byte{0x42});
  regs().kick(0);
  for (int i = 0; i < 100; ++i) on_loop([] {});
  EXPECT_TRUE(std::ranges::all_of(ram, [](std::byte byte) { return byte == std::byte{0x42}; }));
}

TEST_F(BlkTest, TakesNothingFromTheRingOnceResetBegan) {
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  publish_read(0, 512);
  kick_until_held(1);
  std::thread guest([&] { regs().reset(); });
  publish_read(1, 512);
  transport_->kicks()[0].signal();  // like an ioeventfd, without the registers
  for (int i = 0; i < 100; ++i) on_loop([] {});
  EXPECT_LE(disk_->calls().reads, 2);
  while (disk_->calls().held > 0) on_loop([&] { disk_->release_all(); });
  guest.join();
  EXPECT_EQ(regs().status(), 0u);
}

TEST_F(BlkTest, ResetIsHarmlessWhenNotActive) {
  regs().reset();
  regs().reset();
  start();
  regs().reset();
  regs().reset();
  driver_->forget();
  start();
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
}

TEST_F(BlkTest, StartsWithoutAQueueAndServesNothing) {
  ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1)), MmioDriver::kFeaturesOk);
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
  publish_read(0, 512);
  regs().kick(0);
  on_loop([] {});
  EXPECT_EQ(driver_->used_index(), 0);
  regs().reset();
}

TEST_F(BlkTest, StartsAgainAfterEveryResetInTheMiddleOfTraffic) {
  set_delay(MemoryBackend::Delay::kNextRound);
  for (int life = 0; life < 200; ++life) {
    driver_->forget();
    start();
    for (uint64_t i = 0; i < 16; ++i) publish_read(i, 512);
    kick();
    if (life % 2 == 0) {
      EXPECT_EQ(take_used().written_bytes, 513u);
    }
    regs().reset();
  }
}

// A driver that publishes without end keeps the loop busy but does not block a reset.
TEST_F(BlkTest, ResetGetsThroughToADriverThatNeverStops) {
  set_driver({.size = 16});
  start();
  std::atomic<bool> stop = false;
  const auto read = driver_->chain().readable(header(VIRTIO_BLK_T_IN, 0)).writable(1).stage();
  // Makes chains available without end, and ignores the used ring.
  std::thread endless([&] {
    while (!stop) driver_->make_available(read.head);
  });
  regs().kick(0);
  // The driver may overrun the device and so break the ring; the test then restarts it.
  for (int i = 0; i < 50; ++i) {
    regs().reset();
    (void)regs().start(driver_->layout());
    regs().kick(0);
  }
  regs().reset();
  stop = true;
  endless.join();
  driver_->forget();
  start();
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
}

}  // namespace
}  // namespace wick::virtio
