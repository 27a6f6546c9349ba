#include "virtio/blk_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace wick::virtio {
namespace {

using Kind = BlkRequest::Kind;

constexpr BlkLimits kLimits = {.capacity_sectors = 1000,
                               .read_only = false,
                               .flush = true,
                               .discard = true,
                               .write_zeroes = true,
                               .max_discard_sectors = 500,
                               .max_write_zeroes_sectors = 400};

// The buffers of one request, in sizes that the test chooses.
class Buffers {
 public:
  // Copies `bytes` into buffers of these sizes; the rest goes into the last buffer.
  std::vector<iovec> cut(std::span<const std::byte> bytes, std::vector<size_t> sizes = {}) {
    std::vector<iovec> buffers;
    size_t used = 0;
    for (const size_t size : sizes) {
      buffers.push_back(add(bytes.subspan(used, size)));
      used += size;
    }
    if (used < bytes.size()) buffers.push_back(add(bytes.subspan(used)));
    return buffers;
  }
  iovec space(size_t size_bytes) { return add(std::vector<std::byte>(size_bytes)); }

 private:
  iovec add(std::span<const std::byte> bytes) {
    storage_.emplace_back(bytes.begin(), bytes.end());
    return {storage_.back().data(), bytes.size()};
  }
  std::vector<std::vector<std::byte>> storage_;
};

std::array<std::byte, 16> header(uint32_t type, uint64_t sector) {
  std::array<std::byte, 16> bytes{};
  store_le(std::span(bytes).first(4), type);
  store_le(std::span(bytes).subspan(8), sector);
  return bytes;
}

std::vector<std::byte> segment(uint64_t sector, uint32_t sectors, uint32_t flags) {
  std::vector<std::byte> bytes(16);
  store_le(std::span(bytes), sector);
  store_le(std::span(bytes).subspan(8), sectors);
  store_le(std::span(bytes).subspan(12), flags);
  return bytes;
}

class BlkRequestTest : public testing::Test {
 protected:
  BlkRequest read(uint64_t sector, std::vector<size_t> sizes, const BlkLimits& limits = kLimits) {
    std::vector<iovec> in;
    for (const size_t size : sizes) in.push_back(buffers_.space(size));
    in.push_back(buffers_.space(1));
    return BlkRequest::parse(buffers_.cut(header(VIRTIO_BLK_T_IN, sector)), in, limits);
  }

  // Parses a request whose data the device reads. The data follows the header.
  BlkRequest out(uint32_t type, uint64_t sector, std::span<const std::byte> data,
                 const BlkLimits& limits = kLimits) {
    std::vector<iovec> readable = buffers_.cut(header(type, sector));
    readable.push_back(buffers_.cut(data, {data.size()}).front());
    return BlkRequest::parse(readable, std::vector{buffers_.space(1)}, limits);
  }
  BlkRequest write(uint64_t sector, size_t size_bytes, const BlkLimits& limits = kLimits) {
    return out(VIRTIO_BLK_T_OUT, sector, std::vector<std::byte>(size_bytes), limits);
  }

  static void expect_refused(const BlkRequest& request, uint8_t status) {
    EXPECT_EQ(request.kind, Kind::kRefused);
    EXPECT_EQ(request.refusal, status);
    EXPECT_NE(request.status_byte, nullptr);
  }

  Buffers buffers_;
};

// --- well-behaved drivers ---

// Buffers may overlap, so a request can be far larger than guest RAM. The loop fills the
// buffer of an ID without a pause, so its size is limited.
TEST_F(BlkRequestTest, RefusesAnIdBufferThatIsTooLarge) {
  const auto with = [&](uint32_t bytes) {
    const std::vector<iovec> in = {buffers_.space(bytes), buffers_.space(1)};
    return BlkRequest::parse(buffers_.cut(header(VIRTIO_BLK_T_GET_ID, 0)), in, kLimits);
  };
  EXPECT_EQ(with(4096).kind, Kind::kGetId);
  expect_refused(with(4097), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlkRequestTest, UnderstandsRead) {
  const BlkRequest request = read(7, {512, 1024});
  EXPECT_EQ(request.kind, Kind::kRead);
  EXPECT_EQ(request.offset_bytes, 7u * 512);
  EXPECT_EQ(request.length_bytes, 1536u);
  EXPECT_EQ(request.data.size(), 2u);
  EXPECT_EQ(request.written_before_status, 1536u);
}

TEST_F(BlkRequestTest, UnderstandsWrite) {
  const BlkRequest request = write(999, 512);
  EXPECT_EQ(request.kind, Kind::kWrite);
  EXPECT_EQ(request.offset_bytes, 999u * 512);
  EXPECT_EQ(request.length_bytes, 512u);
  EXPECT_EQ(request.written_before_status, 0u);
}

TEST_F(BlkRequestTest, UnderstandsFlush) {
  EXPECT_EQ(out(VIRTIO_BLK_T_FLUSH, 0, {}).kind, Kind::kFlush);
}

TEST_F(BlkRequestTest, UnderstandsGetId) {
  const BlkRequest request =
      BlkRequest::parse(buffers_.cut(header(VIRTIO_BLK_T_GET_ID, 0)),
                        std::vector{buffers_.space(20), buffers_.space(1)}, kLimits);
  EXPECT_EQ(request.kind, Kind::kGetId);
  EXPECT_EQ(request.written_before_status, 20u);
}

TEST_F(BlkRequestTest, UnderstandsDiscardAndWriteZeroes) {
  BlkRequest request = out(VIRTIO_BLK_T_DISCARD, 0, segment(10, 20, 0));
  EXPECT_EQ(request.kind, Kind::kDiscard);
  EXPECT_EQ(request.offset_bytes, 5120u);
  EXPECT_EQ(request.length_bytes, 10240u);
  request = out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(10, 20, 0));
  EXPECT_EQ(request.kind, Kind::kWriteZeroes);
  EXPECT_FALSE(request.unmap);
  request = out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(10, 20, 1));
  EXPECT_EQ(request.kind, Kind::kWriteZeroes);
  EXPECT_TRUE(request.unmap);
}

// 2.7.4.1: the driver may choose any framing.
TEST_F(BlkRequestTest, TakesAHeaderInSixteenBuffersOfOneByte) {
  std::vector<iovec> readable =
      buffers_.cut(header(VIRTIO_BLK_T_OUT, 0x123), std::vector<size_t>(16, 1));
  readable.push_back(buffers_.space(512));
  const BlkRequest request = BlkRequest::parse(readable, std::vector{buffers_.space(1)}, kLimits);
  EXPECT_EQ(request.kind, Kind::kWrite);
  EXPECT_EQ(request.offset_bytes, 0x123u * 512);
  EXPECT_EQ(request.length_bytes, 512u);
}

TEST_F(BlkRequestTest, TakesHeaderAndDataInOneBuffer) {
  std::vector<std::byte> all(16 + 512, std::byte{0x5a});
  std::ranges::copy(header(VIRTIO_BLK_T_OUT, 1), all.begin());
  const BlkRequest request =
      BlkRequest::parse(buffers_.cut(all), std::vector{buffers_.space(1)}, kLimits);
  ASSERT_EQ(request.kind, Kind::kWrite);
  EXPECT_EQ(request.length_bytes, 512u);
  EXPECT_EQ(*static_cast<const std::byte*>(request.data.at(0).iov_base), std::byte{0x5a});
}

TEST_F(BlkRequestTest, TakesDataAndStatusInOneBuffer) {
  const iovec space = buffers_.space(513);
  const BlkRequest request =
      BlkRequest::parse(buffers_.cut(header(VIRTIO_BLK_T_IN, 0)), std::vector{space}, kLimits);
  EXPECT_EQ(request.kind, Kind::kRead);
  EXPECT_EQ(request.length_bytes, 512u);
  EXPECT_EQ(request.status_byte, static_cast<std::byte*>(space.iov_base) + 512);
}

TEST_F(BlkRequestTest, TakesZeroLengthBuffersAnywhere) {
  std::vector<iovec> readable = buffers_.cut(header(VIRTIO_BLK_T_IN, 3), {0, 8, 0, 8, 0});
  const iovec status = buffers_.space(1);
  const std::vector<iovec> writable = {buffers_.space(0), buffers_.space(512), buffers_.space(0),
                                       status, buffers_.space(0)};
  const BlkRequest request = BlkRequest::parse(readable, writable, kLimits);
  EXPECT_EQ(request.kind, Kind::kRead);
  EXPECT_EQ(request.length_bytes, 512u);
  EXPECT_EQ(request.status_byte, status.iov_base);
}

TEST_F(BlkRequestTest, WritesNothing) {
  const iovec status = buffers_.space(1);
  *static_cast<std::byte*>(status.iov_base) = std::byte{0x77};
  (void)BlkRequest::parse(buffers_.cut(header(99, 0)), std::vector{status}, kLimits);
  EXPECT_EQ(*static_cast<std::byte*>(status.iov_base), std::byte{0x77});
}

TEST_F(BlkRequestTest, KeepsTheHeaderItReadWhenTheDriverChangesIt) {
  const auto readable = buffers_.cut(header(VIRTIO_BLK_T_IN, 5));
  const BlkRequest request =
      BlkRequest::parse(readable, std::vector{buffers_.space(512), buffers_.space(1)}, kLimits);
  std::memset(readable[0].iov_base, 0xff, 16);
  EXPECT_EQ(request.kind, Kind::kRead);
  EXPECT_EQ(request.offset_bytes, 5u * 512);
}

// --- malformed ---

TEST_F(BlkRequestTest, RefusesMissingOrShortHeader) {
  for (size_t size = 0; size < 16; ++size) {
    const auto bytes = header(VIRTIO_BLK_T_IN, 0);
    const BlkRequest request =
        BlkRequest::parse(buffers_.cut(std::span(bytes).first(size)),
                          std::vector{buffers_.space(512), buffers_.space(1)}, kLimits);
    expect_refused(request, VIRTIO_BLK_S_IOERR);
  }
}

TEST_F(BlkRequestTest, RefusesARequestWithoutRoomForItsStatus) {
  for (const uint32_t type :
       std::to_array<uint32_t>({VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
                                VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD})) {
    std::vector<iovec> readable = buffers_.cut(header(type, 0));
    readable.push_back(buffers_.space(512));
    for (const std::vector<iovec>& writable :
         {std::vector<iovec>{}, std::vector{buffers_.space(0)}}) {
      const BlkRequest request = BlkRequest::parse(readable, writable, kLimits);
      EXPECT_EQ(request.kind, Kind::kRefused) << type;
      EXPECT_EQ(request.status_byte, nullptr);
    }
  }
}

TEST_F(BlkRequestTest, RefusesAnEmptyChain) {
  const BlkRequest request = BlkRequest::parse({}, {}, kLimits);
  EXPECT_EQ(request.kind, Kind::kRefused);
  EXPECT_EQ(request.status_byte, nullptr);
}

TEST_F(BlkRequestTest, RefusesDataThatIsNoMultipleOfASector) {
  for (const size_t size : {1u, 511u, 513u, 1000u}) {
    expect_refused(read(0, {size}), VIRTIO_BLK_S_IOERR);
    expect_refused(write(0, size), VIRTIO_BLK_S_IOERR);
  }
  // But a sector may be split over several buffers.
  EXPECT_EQ(read(0, {1, 511, 300, 212}).kind, Kind::kRead);
}

TEST_F(BlkRequestTest, RefusesTransfersBeyondTheEnd) {
  EXPECT_EQ(read(999, {512}).kind, Kind::kRead);
  expect_refused(read(1000, {512}), VIRTIO_BLK_S_IOERR);
  expect_refused(read(999, {1024}), VIRTIO_BLK_S_IOERR);
  expect_refused(write(1000, 512), VIRTIO_BLK_S_IOERR);
  expect_refused(write(999, 1024), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlkRequestTest, RefusesSectorsThatOverflow) {
  for (const uint64_t sector : {~0ull, ~0ull - 1, 1ull << 63, 1ull << 55, (1ull << 55) + 1}) {
    expect_refused(read(sector, {512}), VIRTIO_BLK_S_IOERR);
    expect_refused(write(sector, 512), VIRTIO_BLK_S_IOERR);
    expect_refused(out(VIRTIO_BLK_T_DISCARD, 0, segment(sector, 1, 0)), VIRTIO_BLK_S_IOERR);
    expect_refused(out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(sector, 1, 0)), VIRTIO_BLK_S_IOERR);
  }
}

TEST_F(BlkRequestTest, RefusesEveryWriteToAReadOnlyDisk) {
  BlkLimits limits = kLimits;
  limits.read_only = true;
  expect_refused(write(0, 512, limits), VIRTIO_BLK_S_IOERR);
  expect_refused(out(VIRTIO_BLK_T_DISCARD, 0, segment(0, 1, 0), limits), VIRTIO_BLK_S_IOERR);
  expect_refused(out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(0, 1, 0), limits), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(read(0, {512}, limits).kind, Kind::kRead);
}

TEST_F(BlkRequestTest, DoesNotSupportUnknownTypes) {
  for (const uint32_t type :
       {2u, 3u, 5u, 7u, 9u, 10u, 12u, 14u, 15u, 0x80000000u, 0x80000001u, 0xffffffffu})
    expect_refused(out(type, 0, {}), VIRTIO_BLK_S_UNSUPP);
}

TEST_F(BlkRequestTest, DoesNotSupportWhatWasNotNegotiated) {
  constexpr BlkLimits bare = {.capacity_sectors = 1000};
  expect_refused(out(VIRTIO_BLK_T_FLUSH, 0, {}, bare), VIRTIO_BLK_S_UNSUPP);
  expect_refused(out(VIRTIO_BLK_T_DISCARD, 0, segment(0, 1, 0), bare), VIRTIO_BLK_S_UNSUPP);
  expect_refused(out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(0, 1, 0), bare), VIRTIO_BLK_S_UNSUPP);
}

TEST_F(BlkRequestTest, RefusesAnIdBufferThatIsTooSmall) {
  const BlkRequest request =
      BlkRequest::parse(buffers_.cut(header(VIRTIO_BLK_T_GET_ID, 0)),
                        std::vector{buffers_.space(19), buffers_.space(1)}, kLimits);
  expect_refused(request, VIRTIO_BLK_S_IOERR);
}

// 5.2.6.2, the segments of DISCARD and WRITE_ZEROES
TEST_F(BlkRequestTest, RefusesSegmentsOfTheWrongSize) {
  for (const uint32_t type :
       std::to_array<uint32_t>({VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES})) {
    for (const size_t size : {0u, 1u, 15u, 17u, 32u, 160u})  // none, short, more than one
      expect_refused(out(type, 0, std::vector<std::byte>(size)), VIRTIO_BLK_S_IOERR);
  }
}

TEST_F(BlkRequestTest, RefusesSegmentsBeyondTheLimit) {
  EXPECT_EQ(out(VIRTIO_BLK_T_DISCARD, 0, segment(0, 500, 0)).kind, Kind::kDiscard);
  expect_refused(out(VIRTIO_BLK_T_DISCARD, 0, segment(0, 501, 0)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(0, 400, 0)).kind, Kind::kWriteZeroes);
  expect_refused(out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(0, 401, 0)), VIRTIO_BLK_S_IOERR);
  expect_refused(out(VIRTIO_BLK_T_DISCARD, 0, segment(0, 0xffffffff, 0)), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlkRequestTest, RefusesSegmentsBeyondTheEnd) {
  for (const uint32_t type :
       std::to_array<uint32_t>({VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES})) {
    EXPECT_NE(out(type, 0, segment(999, 1, 0)).kind, Kind::kRefused);
    expect_refused(out(type, 0, segment(999, 2, 0)), VIRTIO_BLK_S_IOERR);
    expect_refused(out(type, 0, segment(1001, 0, 0)), VIRTIO_BLK_S_IOERR);
  }
}

TEST_F(BlkRequestTest, DoesNotSupportUnknownSegmentFlags) {
  expect_refused(out(VIRTIO_BLK_T_DISCARD, 0, segment(0, 1, 1)), VIRTIO_BLK_S_UNSUPP);
  expect_refused(out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(0, 1, 2)), VIRTIO_BLK_S_UNSUPP);
  expect_refused(out(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(0, 1, 0x80000001)), VIRTIO_BLK_S_UNSUPP);
}

TEST_F(BlkRequestTest, TakesASegmentCutOverBuffers) {
  std::vector<iovec> readable = buffers_.cut(header(VIRTIO_BLK_T_DISCARD, 0), {3});
  for (const iovec& part : buffers_.cut(segment(10, 20, 0), {1, 7, 5})) readable.push_back(part);
  const BlkRequest request = BlkRequest::parse(readable, std::vector{buffers_.space(1)}, kLimits);
  EXPECT_EQ(request.kind, Kind::kDiscard);
  EXPECT_EQ(request.length_bytes, 10240u);
}

}  // namespace
}  // namespace wick::virtio
