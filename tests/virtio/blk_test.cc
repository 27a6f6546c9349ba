// Tests virtio-blk through the MMIO registers and the ring: requests, configuration and failures.
#include "virtio/blk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tests/fakes/pattern.h"
#include "tests/virtio/blk_fixture.h"

namespace wick::virtio {
namespace {

using fakes::pattern;

// --- requests ---

TEST_F(BlkTest, ReadsTheDisk) {
  const auto data = pattern(4096, 1);
  std::ranges::copy(data, disk_->bytes().begin() + 512);
  start();
  const auto request = publish_read(1, 4096);
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{request.head, 4097}));
  EXPECT_EQ(status(request), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(std::ranges::equal(request.writable[0], data));
}

TEST_F(BlkTest, WritesTheDisk) {
  start();
  const auto data = pattern(1024, 2);
  const auto request = publish_write(3, data);
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{request.head, 1}));
  EXPECT_EQ(status(request), VIRTIO_BLK_S_OK);
  on_loop([&] { EXPECT_TRUE(std::ranges::equal(disk_->bytes().subspan(1536, 1024), data)); });
}

TEST_F(BlkTest, FlushesTheDisk) {
  start();
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_FLUSH)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(disk_->calls().flushes, 1);
}

TEST_F(BlkTest, DoesNotFlushEachWriteWhenTheDriverFlushes) {
  start();
  EXPECT_EQ(finish(publish_write(0, pattern(512, 1))), VIRTIO_BLK_S_OK);
  EXPECT_EQ(disk_->calls().flushes, 0);
}

// 5.2.6.2
TEST_F(BlkTest, WritesThroughWhenFlushWasNotNegotiated) {
  start(kFlushBit);
  EXPECT_EQ(finish(publish_write(0, pattern(512, 1))), VIRTIO_BLK_S_OK);
  EXPECT_EQ(disk_->calls().flushes, 1);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_FLUSH)), VIRTIO_BLK_S_UNSUPP);
}

TEST_F(BlkTest, TellsItsSerialNumberPaddedWithZeroes) {
  start();
  const auto request =
      driver_->chain().readable(header(VIRTIO_BLK_T_GET_ID, 0)).writable(20).writable(1).publish();
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{request.head, 21}));
  EXPECT_EQ(status(request), VIRTIO_BLK_S_OK);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(request.writable[0].data()), 20),
            std::string("serial-0001") + std::string(9, '\0'));
}

TEST_F(BlkTest, CutsALongSerialNumberToTwentyBytes) {
  attach(*disk_, "0123456789abcdefghij-and-more");
  start();
  // The same with the write in pieces.
  const auto request = driver_->chain()
                           .readable(header(VIRTIO_BLK_T_GET_ID, 0))
                           .writable(1)
                           .writable(19)
                           .writable(1)
                           .publish();
  EXPECT_EQ(finish(request), VIRTIO_BLK_S_OK);
  EXPECT_EQ(std::memcmp(request.writable[0].data(), "0", 1), 0);
  EXPECT_EQ(std::memcmp(request.writable[1].data(), "123456789abcdefghij", 19), 0);
}

TEST_F(BlkTest, DiscardsAndWritesZeroes) {
  start();
  on_loop([&] { std::ranges::fill(disk_->bytes(), std::byte{0xff}); });
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_DISCARD, segment(8, 8, 0))), VIRTIO_BLK_S_OK);
  EXPECT_EQ(disk_->calls().discards, 1);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_WRITE_ZEROES, segment(16, 1, 1))), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(disk_->calls().last_zeroes_may_unmap);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_WRITE_ZEROES, segment(17, 1, 0))), VIRTIO_BLK_S_OK);
  EXPECT_FALSE(disk_->calls().last_zeroes_may_unmap);
  on_loop([&] {
    const auto bytes = disk_->bytes();
    EXPECT_EQ(bytes[16 * 512 - 1], std::byte{0});
    EXPECT_EQ(bytes[16 * 512], std::byte{0});
    EXPECT_EQ(bytes[18 * 512 - 1], std::byte{0});
    EXPECT_EQ(bytes[18 * 512], std::byte{0xff});
  });
}

TEST_F(BlkTest, ServesWhatWasPublishedBeforeDriverOk) {
  ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1)), MmioDriver::kFeaturesOk);
  regs().set_queue(0, driver_->layout());
  const auto request = publish_read(0, 512);
  regs().kick(0);
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_EQ(take_used().head, request.head);
}

TEST_F(BlkTest, ServesEveryKindOfRing) {
  for (const bool event_index : {false, true}) {
    for (const uint16_t size : std::to_array<uint16_t>({4, 64, 256})) {
      set_driver({.size = size, .event_index = event_index});
      start();
      for (uint32_t i = 0; i < 100; ++i) {
        const auto data = pattern(512, i);
        EXPECT_EQ(finish(publish_write(i, data)), VIRTIO_BLK_S_OK);
        const auto back = driver_->chain()
                              .readable(header(VIRTIO_BLK_T_IN, i))
                              .writable(512)
                              .writable(1)
                              .indirect()
                              .publish();
        EXPECT_EQ(finish(back), VIRTIO_BLK_S_OK);
        ASSERT_TRUE(std::ranges::equal(back.writable[0], data));
      }
    }
  }
}

// Linux makes such large requests only if max_sectors_kb is raised.
TEST_F(BlkTest, ServesTransfersOfAnySize) {
  constexpr uint32_t kBufferBytes = 1 << 20;
  constexpr uint32_t kBuffers = 40;
  use_disk(uint64_t{kBuffers} * kBufferBytes + 512);
  set_driver({.size = 256});
  start();
  // All buffers are the same one, so each MiB of the disk gets the same content.
  const GuestAddress at{6 << 20};
  const auto data = pattern(kBufferBytes, 1);
  std::ranges::copy(data, memory_->slice(at, kBufferBytes)->begin());
  auto write = driver_->chain();
  write.readable(header(VIRTIO_BLK_T_OUT, 1));
  for (uint32_t i = 0; i < kBuffers; ++i) write.readable_at(at, kBufferBytes);
  EXPECT_EQ(finish(write.writable(1).publish()), VIRTIO_BLK_S_OK);
  on_loop([&] {
    for (uint32_t i = 0; i < kBuffers; ++i)
      EXPECT_TRUE(std::ranges::equal(
          disk_->bytes().subspan(512 + uint64_t{i} * kBufferBytes, kBufferBytes), data))
          << i;
  });
  std::ranges::fill(*memory_->slice(at, kBufferBytes), std::byte{0});
  auto read = driver_->chain();
  read.readable(header(VIRTIO_BLK_T_IN, 1));
  for (uint32_t i = 0; i < kBuffers; ++i) read.writable_at(at, kBufferBytes);
  const auto request = read.writable(1).publish();
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{request.head, kBuffers * kBufferBytes + 1}));
  EXPECT_EQ(status(request), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(std::ranges::equal(*memory_->slice(at, kBufferBytes), data));
  // An error of one piece makes the whole request fail.
  on_loop([&] { disk_->fail_next(1, EIO); });
  auto again = driver_->chain();
  again.readable(header(VIRTIO_BLK_T_IN, 1));
  for (uint32_t i = 0; i < kBuffers; ++i) again.writable_at(at, kBufferBytes);
  EXPECT_EQ(finish(again.writable(1).publish()), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlkTest, ServesSegMaxSegmentsInARingThatTheDriverMadeSmaller) {
  set_driver({.size = 4});
  start();
  const uint64_t segments = regs().config(offsetof(virtio_blk_config, seg_max), 4);
  ASSERT_GT(segments, 4u);
  auto read = driver_->chain();
  read.readable(header(VIRTIO_BLK_T_IN, 0));
  for (uint64_t i = 0; i < segments; ++i) read.writable(512);
  EXPECT_EQ(finish(read.writable(1).indirect().publish()), VIRTIO_BLK_S_OK);
}

// --- configuration space ---

TEST_F(BlkTest, OffersSmallZeroRequestsWhereZeroesAreWritten) {
  const auto most = [&](size_t field) { return regs().config(field, 4); };
  EXPECT_EQ(most(offsetof(virtio_blk_config, max_write_zeroes_sectors)), 4u << 20);
  EXPECT_EQ(most(offsetof(virtio_blk_config, max_discard_sectors)), 4u << 20);
  blk_.reset();
  disk_ = std::make_unique<MemoryBackend>(loop(), kDiskBytes);
  disk_->set_zeroes_fast(false);
  attach(*disk_);
  EXPECT_LE(most(offsetof(virtio_blk_config, max_write_zeroes_sectors)), 32u << 10);
  // A discard writes no zeroes.
  EXPECT_EQ(most(offsetof(virtio_blk_config, max_discard_sectors)), 4u << 20);
}

TEST_F(BlkTest, DescribesAWritableDisk) {
  EXPECT_EQ(regs().config(offsetof(virtio_blk_config, capacity), 8), kDiskBytes / 512);
  EXPECT_EQ(regs().config(offsetof(virtio_blk_config, blk_size), 4), 512u);
  EXPECT_GT(regs().config(offsetof(virtio_blk_config, seg_max), 4), 0u);
  EXPECT_EQ(regs().config(offsetof(virtio_blk_config, max_discard_seg), 4), 1u);
  const uint64_t features = regs().device_features();
  EXPECT_EQ(features >> VIRTIO_BLK_F_RO & 1, 0u);
  EXPECT_EQ(features >> VIRTIO_BLK_F_DISCARD & 1, 1u);
  EXPECT_EQ(features >> VIRTIO_BLK_F_WRITE_ZEROES & 1, 1u);
}

TEST_F(BlkTest, OffersNoWritesOnAReadOnlyDisk) {
  use_disk(kDiskBytes, true);
  const uint64_t features = regs().device_features();
  EXPECT_EQ(features >> VIRTIO_BLK_F_RO & 1, 1u);
  EXPECT_EQ(features >> VIRTIO_BLK_F_DISCARD & 1, 0u);
  EXPECT_EQ(features >> VIRTIO_BLK_F_WRITE_ZEROES & 1, 0u);
  start();
  EXPECT_EQ(finish(publish_write(0, pattern(512, 1))), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(disk_->calls().writes, 0);
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
}

TEST_F(BlkTest, ReadsZeroPastItsConfiguration) {
  for (const uint64_t offset : {sizeof(virtio_blk_config), size_t{0xef8}})
    for (const size_t width : {1u, 2u, 4u, 8u}) EXPECT_EQ(regs().config(offset, width), 0u);
  // A read that crosses the end returns the existing part, then zeroes.
  EXPECT_EQ(regs().config(sizeof(virtio_blk_config) - 1, 8) >> 8, 0u);
}

TEST_F(BlkTest, IgnoresWritesToItsConfiguration) {
  regs().write(MmioDriver::kConfig, 0xffffffff);
  EXPECT_EQ(regs().config(0, 8), kDiskBytes / 512);
}

// --- failures ---

TEST_F(BlkTest, ReportsIoErrorsAndGoesOn) {
  start();
  for (const int code : {EIO, ENOSPC, EFBIG}) {
    on_loop([&] { disk_->fail_next(1, code); });
    EXPECT_EQ(read_status(), VIRTIO_BLK_S_IOERR);
    EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
    on_loop([&] { disk_->fail_next(1, code); });
    EXPECT_EQ(finish(publish_write(0, pattern(512, 1))), VIRTIO_BLK_S_IOERR);
    on_loop([&] { disk_->fail_next(1, code); });
    EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_FLUSH)), VIRTIO_BLK_S_IOERR);
    on_loop([&] { disk_->fail_next(1, code); });
    EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_DISCARD, segment(0, 1, 0))), VIRTIO_BLK_S_IOERR);
    on_loop([&] { disk_->fail_next(1, code); });
    EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_WRITE_ZEROES, segment(0, 1, 0))), VIRTIO_BLK_S_IOERR);
  }
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(BlkTest, ReportsAFailedFlushOfAWriteThrough) {
  start(kFlushBit);
  set_delay(MemoryBackend::Delay::kHeld);
  const auto request = publish_write(0, pattern(512, 1));
  kick_until_held(1);
  on_loop([&] { disk_->release_oldest(); });  // the write; its flush follows
  ASSERT_EQ(disk_->calls().held, 1);
  on_loop([&] {
    disk_->fail_next(1, EIO);
    disk_->release_oldest();
  });
  (void)take_used();
  EXPECT_EQ(status(request), VIRTIO_BLK_S_IOERR);
}

// 2.7.8.2: all bytes that the used length covers were written, counted from the first
// writable byte. Otherwise a driver could pass stale memory to its user.
TEST_F(BlkTest, ClaimsNoBytesThatItDidNotWrite) {
  start();
  on_loop([&] { disk_->fail_next(1, EIO); });
  (void)publish_read(0, 512);
  kick();
  EXPECT_EQ(take_used().written_bytes, 0u);  // the status byte comes after the data

  (void)publish_read(kDiskBytes / 512, 512);
  kick();
  EXPECT_EQ(take_used().written_bytes, 0u);

  // A write with writable buffers that it does not need.
  const auto odd = driver_->chain()
                       .readable(header(VIRTIO_BLK_T_OUT, 0))
                       .readable(pattern(512, 1))
                       .writable(64)
                       .writable(1)
                       .publish();
  kick();
  EXPECT_EQ(take_used().written_bytes, 0u);
  EXPECT_EQ(status(odd), VIRTIO_BLK_S_OK);
  EXPECT_EQ(odd.writable[0][0], std::byte{0xee});

  // A buffer for the ID that is larger than needed.
  const auto id =
      driver_->chain().readable(header(VIRTIO_BLK_T_GET_ID, 0)).writable(64).writable(1).publish();
  kick();
  const uint32_t claimed = take_used().written_bytes;
  EXPECT_EQ(status(id), VIRTIO_BLK_S_OK);
  for (size_t i = 0; i < std::min<size_t>(claimed, 64); ++i)
    EXPECT_NE(id.writable[0][i], std::byte{0xee}) << i;

  // A refused request with no writable bytes but the status.
  (void)publish_out(99);
  kick();
  EXPECT_EQ(take_used().written_bytes, 1u);
}

TEST_F(BlkTest, CompletesMalformedRequests) {
  start();
  std::vector<FakeDriver::Request> malformed;
  malformed.push_back(driver_->chain().writable(1).publish());
  malformed.push_back(driver_->chain().readable("short header").writable(1).publish());
  malformed.push_back(publish_read(0, 100));
  malformed.push_back(publish_read(kDiskBytes / 512, 512));
  malformed.push_back(publish_out(VIRTIO_BLK_T_DISCARD));
  for (const auto& request : malformed) {
    EXPECT_EQ(finish(request), VIRTIO_BLK_S_IOERR);
  }
  EXPECT_EQ(finish(publish_out(12345)), VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(disk_->calls().reads, 0);
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
}

TEST_F(BlkTest, CompletesARequestWithoutStatusByteAndDoesNothing) {
  start();
  const auto silent =
      driver_->chain().readable(header(VIRTIO_BLK_T_OUT, 0)).readable(pattern(512, 9)).publish();
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{silent.head, 0}));
  const auto empty = driver_->chain().readable("").publish();
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{empty.head, 0}));
  EXPECT_EQ(disk_->calls().writes, 0);
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
}

TEST_F(BlkTest, AsksForAResetWhenTheRingIsBroken) {
  start();
  driver_->write_descriptor(0, {1ull << 60, 16, 0, 0});
  driver_->make_available(0);
  regs().kick(0);
  ASSERT_TRUE(wait_for([&] { return (regs().read(MmioDriver::kInterruptStatus) & 2) != 0; }));
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk | MmioDriver::kNeedsReset);
  // The device ignores kicks until it is reset.
  regs().kick(0);
  driver_->forget();
  start();
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
}

TEST_F(BlkTest, FinishesWhatIsInFlightWhenTheRingBreaks) {
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  const auto good = publish_read(0, 512);
  kick_until_held(1);
  driver_->make_available(65535);
  regs().kick(0);
  ASSERT_TRUE(wait_for([&] { return (regs().status() & MmioDriver::kNeedsReset) != 0; }));
  on_loop([&] { disk_->release_all(); });
  EXPECT_EQ(take_used().head, good.head);
  set_delay(MemoryBackend::Delay::kNone);
  driver_->forget();
  start();
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
}

}  // namespace
}  // namespace wick::virtio
