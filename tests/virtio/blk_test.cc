// Tests virtio-blk through the MMIO registers and the ring, with the device on a loop of
// its own.
#include "virtio/blk.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "block/image.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fakes/wait_for.h"
#include "virtio/mmio.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::MemoryBackend;
using fakes::MmioDriver;
using fakes::wait_for;

constexpr uint64_t kDiskBytes = 1 << 20;
constexpr uint64_t kFlushBit = 1ull << VIRTIO_BLK_F_FLUSH;

std::vector<std::byte> pattern(size_t size_bytes, uint32_t seed) {
  std::minstd_rand random(seed);
  std::vector<std::byte> bytes(size_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// A driver with its device. The derived fixtures choose the disk.
class BlkDriver : public testing::Test {
 protected:
  BlkDriver() {
    const std::array ranges = {GuestMemory::Range{{0}, 8 << 20}};
    memory_.emplace(GuestMemory::create(ranges).value());
    thread_ = LoopThread::start("disk-test").value();
    set_driver({.size = 256});
  }

  void set_driver(FakeDriver::Options options) {
    if (registers_) regs().reset();  // the device must not use the old rings any more
    driver_.emplace(*memory_, options);
  }

  void attach(block::Backend& backend, const std::string& serial = "serial-0001") {
    blk_ = std::make_unique<Blk>(backend, loop(), serial, "vda");
    transport_ = MmioTransport::create(*blk_, *memory_, line_, "vda").value();
    registers_.emplace(*transport_);
  }
  void start(uint64_t without_features = 0) {
    ASSERT_TRUE(regs().start(driver_->layout(), without_features));
  }

  EventLoop& loop() { return thread_->loop(); }
  const MmioDriver& regs() const { return *registers_; }

  static std::array<std::byte, 16> header(uint32_t type, uint64_t sector) {
    std::array<std::byte, 16> bytes{};
    store_le(std::span(bytes).first(4), type);
    store_le(std::span(bytes).subspan(8), sector);
    return bytes;
  }
  static std::array<std::byte, 16> segment(uint64_t sector, uint32_t sectors, uint32_t flags) {
    std::array<std::byte, 16> bytes{};
    store_le(std::span(bytes).first(8), sector);
    store_le(std::span(bytes).subspan(8, 4), sectors);
    store_le(std::span(bytes).subspan(12), flags);
    return bytes;
  }

  FakeDriver::Request publish_read(uint64_t sector, uint32_t size_bytes) {
    return driver_->chain()
        .readable(header(VIRTIO_BLK_T_IN, sector))
        .writable(size_bytes)
        .writable(1)
        .publish();
  }
  FakeDriver::Request publish_write(uint64_t sector, std::span<const std::byte> data) {
    return driver_->chain()
        .readable(header(VIRTIO_BLK_T_OUT, sector))
        .readable(data)
        .writable(1)
        .publish();
  }
  FakeDriver::Request publish_out(uint32_t type, std::span<const std::byte> data = {}) {
    auto builder = driver_->chain();
    builder.readable(header(type, 0));
    if (!data.empty()) builder.readable(data);
    return builder.writable(1).publish();
  }

  void kick() {
    if (driver_->kick_wanted()) regs().kick(0);
  }
  FakeDriver::Used take_used() {
    std::optional<FakeDriver::Used> used;
    EXPECT_TRUE(wait_for([&] { return (used = driver_->take_used()).has_value(); }));
    return used.value_or(FakeDriver::Used{~0u, ~0u});
  }
  static int status(const FakeDriver::Request& request) {
    return std::to_integer<int>(request.writable.back().back());
  }
  // Kicks, waits for `request`, the only one in flight, and returns its status.
  int finish(const FakeDriver::Request& request) {
    kick();
    EXPECT_EQ(take_used().head, request.head);
    return status(request);
  }
  int read_status(uint64_t sector = 0) { return finish(publish_read(sector, 512)); }

  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  std::optional<FakeDriver> driver_;
  fakes::CountingLine line_;
  std::unique_ptr<Blk> blk_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
};

class BlkTest : public BlkDriver {
 protected:
  BlkTest() { use_disk(kDiskBytes); }
  ~BlkTest() override {
    on_loop([&] {
      disk_->set_delay(MemoryBackend::Delay::kNone);
      disk_->release_all();
    });
    regs().reset();
    thread_->stop();
  }

  void use_disk(uint64_t size_bytes, bool read_only = false) {
    disk_ = std::make_unique<MemoryBackend>(loop(), size_bytes, read_only);
    attach(*disk_);
  }
  template <typename Function>
  void on_loop(Function function) {
    loop().call(function);
  }
  void set_delay(MemoryBackend::Delay delay) {
    on_loop([&] { disk_->set_delay(delay); });
  }
  // Kicks, and waits until the disk holds `count` requests that the test has published.
  void kick_until_held(int count) {
    kick();
    ASSERT_TRUE(wait_for([&] { return disk_->calls().held == count; }));
  }

  std::unique_ptr<MemoryBackend> disk_;
};

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

// --- many at once ---

TEST_F(BlkTest, CompletesInTheOrderOfTheDisk) {
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  const auto first = publish_read(0, 512);
  const auto second = publish_read(1, 512);
  const auto third = publish_read(2, 512);
  kick_until_held(3);
  on_loop([&] { disk_->release_newest(); });
  EXPECT_EQ(take_used().head, third.head);
  on_loop([&] { disk_->release_oldest(); });
  EXPECT_EQ(take_used().head, first.head);
  on_loop([&] { disk_->release_oldest(); });
  EXPECT_EQ(take_used().head, second.head);
}

TEST_F(BlkTest, HasAWholeRingInFlight) {
  set_driver({.size = 256, .buffer_area_bytes = 4 << 20});
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  for (uint32_t i = 0; i < 256; ++i)
    driver_->chain()
        .readable(header(VIRTIO_BLK_T_IN, i))
        .writable(512)
        .writable(1)
        .indirect()
        .publish();
  kick_until_held(256);
  on_loop([&] { disk_->release_all(); });
  for (int i = 0; i < 256; ++i) EXPECT_EQ(take_used().written_bytes, 513u);
}

TEST_F(BlkTest, InterruptsForEachCompletionThatComesLate) {
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  for (int i = 0; i < 3; ++i) publish_read(0, 512);
  kick_until_held(3);
  for (int i = 1; i <= 3; ++i) {
    on_loop([&] { disk_->release_oldest(); });
    EXPECT_EQ(line_.pulses(), i);
    regs().write(MmioDriver::kInterruptAck, 1);
  }
}

TEST_F(BlkTest, InterruptsOnceForABatch) {
  start();
  for (int i = 0; i < 20; ++i) publish_read(0, 512);
  kick();
  for (int i = 0; i < 20; ++i) (void)take_used();
  on_loop([] {});
  EXPECT_EQ(line_.pulses(), 1);
}

TEST_F(BlkTest, HonoursARefusalOfInterrupts) {
  start();
  driver_->refuse_interrupts();
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
  on_loop([] {});
  EXPECT_EQ(line_.pulses(), 0);
}

// The driver sleeps until an interrupt and kicks only when the device wants it. Each
// request must complete once, with the right data.
class BlkTraffic : public BlkTest, public testing::WithParamInterface<bool> {};

TEST_P(BlkTraffic, AnswersEveryRequestOnce) {
  constexpr uint32_t kRequests = 5000;
  set_driver({.size = 64, .event_index = GetParam(), .buffer_area_bytes = 2 << 20});
  start();
  set_delay(MemoryBackend::Delay::kNextRound);
  std::vector<std::optional<FakeDriver::Request>> pending(64);
  uint32_t published = 0;
  uint32_t finished = 0;
  int seen_interrupts = line_.pulses();
  while (finished < kRequests) {
    while (published < kRequests && driver_->has_descriptors(3)) {
      const auto request = published % 2 == 0
                               ? publish_write(published % 2048, pattern(512, published))
                               : publish_read(published % 2048, 512);
      pending[request.head] = request;
      ++published;
    }
    kick();
    driver_->want_interrupt_after(driver_->used_seen());
    if (driver_->used_index() == driver_->used_seen()) {
      ASSERT_TRUE(wait_for([&] { return line_.pulses() != seen_interrupts; }))
          << "no interrupt after " << finished;
    }
    seen_interrupts = line_.pulses();
    regs().write(MmioDriver::kInterruptAck, 1);
    while (const auto used = driver_->take_used()) {
      ASSERT_LT(used->head, 64u);
      ASSERT_TRUE(pending[used->head]) << "given back twice";
      EXPECT_EQ(status(*pending[used->head]), VIRTIO_BLK_S_OK);
      pending[used->head].reset();
      ++finished;
    }
  }
  EXPECT_EQ(disk_->calls().reads + disk_->calls().writes, static_cast<int>(kRequests));
}

INSTANTIATE_TEST_SUITE_P(, BlkTraffic, testing::Bool(),
                         [](const auto& param) { return param.param ? "EventIndex" : "Flags"; });

// --- reset (2.4.1) ---

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

// --- over a real file ---

enum class Engine { kUring, kThreaded };

class BlkOnFile : public BlkDriver, public testing::WithParamInterface<Engine> {
 protected:
  BlkOnFile() {
    file_ = Fd(::mkostemp(path_.data(), O_CLOEXEC));
    EXPECT_EQ(::ftruncate(file_.get(), kDiskBytes), 0);
    loop().call([&] {
      io_ = (GetParam() == Engine::kUring ? block::AsyncIo::create_uring(loop())
                                          : block::AsyncIo::create_threaded(loop()))
                .value();
    });
    backend_ =
        run_on(loop(), block::open_image(path_, {.format = block::Format::kRaw}, *io_)).value();
    attach(*backend_);
    start();
  }
  ~BlkOnFile() override {
    regs().reset();
    thread_->stop();
    ::unlink(path_.c_str());
  }

  std::string path_ = testing::TempDir() + "wick-blk-XXXXXX";
  Fd file_;
  std::unique_ptr<block::AsyncIo> io_;
  std::unique_ptr<block::Backend> backend_;
};

TEST_P(BlkOnFile, ReadsBackWhatItWrote) {
  const auto data = pattern(65536, 7);
  EXPECT_EQ(finish(publish_write(100, data)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_FLUSH)), VIRTIO_BLK_S_OK);
  const auto request = publish_read(100, 65536);
  EXPECT_EQ(finish(request), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(std::ranges::equal(request.writable[0], data));
  std::vector<std::byte> in_file(65536);
  ASSERT_EQ(::pread(file_.get(), in_file.data(), in_file.size(), 51200), 65536);
  EXPECT_EQ(in_file, data);
}

TEST_P(BlkOnFile, GivesSpaceBack) {
  EXPECT_EQ(finish(publish_write(0, pattern(1 << 19, 7))), VIRTIO_BLK_S_OK);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_DISCARD, segment(0, 512, 0))), VIRTIO_BLK_S_OK);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_WRITE_ZEROES, segment(512, 512, 0))), VIRTIO_BLK_S_OK);
  const auto request = publish_read(512, 4096);
  EXPECT_EQ(finish(request), VIRTIO_BLK_S_OK);
  EXPECT_THAT(request.writable[0], testing::Each(std::byte{0}));
}

TEST_P(BlkOnFile, DrainsAtReset) {
  for (int life = 0; life < 50; ++life) {
    for (uint64_t i = 0; i < 32; ++i) publish_write(i * 8, pattern(4096, static_cast<uint32_t>(i)));
    kick();
    regs().reset();
    const uint16_t done = driver_->used_index();
    for (int i = 0; i < 10; ++i) loop().call([] {});
    EXPECT_EQ(driver_->used_index(), done);
    driver_->forget();
    start();
  }
}

INSTANTIATE_TEST_SUITE_P(, BlkOnFile, testing::Values(Engine::kUring, Engine::kThreaded),
                         [](const auto& param) {
                           return param.param == Engine::kUring ? "Uring" : "Threaded";
                         });

}  // namespace
}  // namespace wick::virtio
