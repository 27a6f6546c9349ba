// Requests of NBD clients: what is parsed, and what is refused with which error.
#include "image/nbd_request.h"

#include <gtest/gtest.h>

#include "tests/fakes/nbd_client.h"

namespace wick::image {
namespace {

using fakes::NbdClient;

constexpr uint64_t kSize = 64 << 20;
constexpr uint16_t kWritable = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES;
constexpr NbdLimits kLimits{kSize, kWritable, false, false};

std::optional<NbdRequest> parse(const std::string& text) {
  return NbdRequest::parse(std::as_bytes(std::span(text)).first<NbdRequest::kBytes>());
}

uint32_t check(uint32_t type, uint64_t offset, uint32_t length, const NbdLimits& limits = kLimits) {
  return check_request(*parse(NbdClient::request(type, 1, offset, length)), limits);
}

TEST(NbdRequest, HasItsFieldsInNetworkOrder) {
  const auto request =
      parse(NbdClient::request(NBD_CMD_WRITE | NBD_CMD_FLAG_FUA, 0x0102030405060708, 1 << 20, 512));
  ASSERT_TRUE(request);
  EXPECT_EQ(request->command, NBD_CMD_WRITE);
  EXPECT_EQ(request->flags, uint32_t{NBD_CMD_FLAG_FUA});
  EXPECT_EQ(request->cookie, 0x0102030405060708u);
  EXPECT_EQ(request->offset_bytes, 1u << 20);
  EXPECT_EQ(request->payload_bytes(), 512u);
}

TEST(NbdRequest, WithAWrongMagicIsNone) {
  std::string text = NbdClient::request(NBD_CMD_READ, 1, 0, 1);
  text[3] ^= 1;
  EXPECT_FALSE(parse(text));
}

TEST(NbdRequest, InsideTheDiskIsExecuted) {
  for (const uint32_t command : {uint32_t{NBD_CMD_READ}, uint32_t{NBD_CMD_WRITE},
                                 uint32_t{NBD_CMD_TRIM}, uint32_t{NBD_CMD_WRITE_ZEROES}}) {
    EXPECT_EQ(check(command, 0, 1), NBD_SUCCESS);
    EXPECT_EQ(check(command, kSize - 1, 1), NBD_SUCCESS);
    EXPECT_EQ(check(command, kSize, 0), NBD_SUCCESS);
    EXPECT_EQ(check(command | NBD_CMD_FLAG_FUA, 0, 1), NBD_SUCCESS);
  }
  EXPECT_EQ(check(NBD_CMD_FLUSH, 0, 0), NBD_SUCCESS);
}

TEST(NbdRequest, OutsideTheDiskIsRefusedWithoutOverflow) {
  for (const auto& [offset, length] : {std::pair<uint64_t, uint32_t>(kSize, 1),
                                       {kSize - 1, 2},
                                       {~uint64_t{0}, 1},
                                       {~uint64_t{0} - 10, 100},
                                       {0x8000000000000000, 0xffffffff},
                                       {kSize + 1, 0}}) {
    EXPECT_EQ(check(NBD_CMD_READ, offset, std::min(length, kNbdMaxDataBytes)), NBD_EINVAL);
    EXPECT_EQ(check(NBD_CMD_TRIM, offset, length), NBD_EINVAL);
    EXPECT_EQ(check(NBD_CMD_WRITE, offset, length), NBD_ENOSPC);
    EXPECT_EQ(check(NBD_CMD_WRITE_ZEROES, offset, length), NBD_ENOSPC);
  }
}

TEST(NbdRequest, OfMoreThan32MiBIsNotRead) {
  EXPECT_EQ(check(NBD_CMD_READ, 0, kNbdMaxDataBytes), NBD_SUCCESS);
  EXPECT_EQ(check(NBD_CMD_READ, 0, kNbdMaxDataBytes + 1), NBD_EINVAL);
  EXPECT_EQ(check(NBD_CMD_WRITE_ZEROES, 0, kSize), NBD_SUCCESS);
}

TEST(NbdRequest, DoesNotChangeAReadOnlyDisk) {
  NbdLimits limits = kLimits;
  limits.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY;
  EXPECT_EQ(check(NBD_CMD_WRITE, 0, 1, limits), NBD_EPERM);
  EXPECT_EQ(check(NBD_CMD_TRIM, 0, 1, limits), NBD_EPERM);
  EXPECT_EQ(check(NBD_CMD_WRITE_ZEROES, 0, 1, limits), NBD_EPERM);
  EXPECT_EQ(check(NBD_CMD_READ, 0, 1, limits), NBD_SUCCESS);
  EXPECT_EQ(check(NBD_CMD_FLUSH, 0, 0, limits), NBD_SUCCESS);
}

TEST(NbdRequest, OfWhatWasNotOfferedIsInvalid) {
  NbdLimits no_trim = kLimits;
  no_trim.flags = NBD_FLAG_HAS_FLAGS;
  EXPECT_EQ(check(NBD_CMD_TRIM, 0, 1, no_trim), NBD_EINVAL);
  EXPECT_EQ(check(NBD_CMD_BLOCK_STATUS, 0, 1), NBD_EINVAL);
  EXPECT_EQ(check(5, 0, 1), NBD_EINVAL);  // NBD_CMD_CACHE
  EXPECT_EQ(check(8, 0, 1), NBD_EINVAL);
  EXPECT_EQ(check(0xffff, 0, 1), NBD_EINVAL);
  EXPECT_EQ(check(NBD_CMD_READ | NBD_CMD_FLAG_DF, 0, 1), NBD_EINVAL);
  EXPECT_EQ(check(NBD_CMD_WRITE_ZEROES | NBD_CMD_FLAG_FAST_ZERO, 0, 1), NBD_EINVAL);
  EXPECT_EQ(check(NBD_CMD_WRITE | NBD_CMD_FLAG_NO_HOLE, 0, 1), NBD_EINVAL);
  EXPECT_EQ(check(NBD_CMD_WRITE | 1u << 31, 0, 1), NBD_EINVAL);
}

TEST(NbdRequest, OfWhatWasNegotiatedIsExecuted) {
  const NbdLimits limits{kSize, kWritable | NBD_FLAG_SEND_FAST_ZERO, true, true};
  EXPECT_EQ(check(NBD_CMD_READ | NBD_CMD_FLAG_DF, 0, 1, limits), NBD_SUCCESS);
  EXPECT_EQ(check(NBD_CMD_BLOCK_STATUS | NBD_CMD_FLAG_REQ_ONE, 0, 1, limits), NBD_SUCCESS);
  EXPECT_EQ(check(NBD_CMD_BLOCK_STATUS, 0, 0, limits), NBD_EINVAL);
  EXPECT_EQ(
      check(NBD_CMD_WRITE_ZEROES | NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_NO_HOLE, 0, 1, limits),
      NBD_SUCCESS);
}

TEST(NbdRequest, ErrorsOfTheHostBecomeThoseOfTheProtocol) {
  const auto error_of = [](int code) { return nbd_error_of(Error{code, "disk", {}}); };
  EXPECT_EQ(error_of(EROFS), NBD_EPERM);
  EXPECT_EQ(error_of(EDQUOT), NBD_ENOSPC);
  EXPECT_EQ(error_of(EFBIG), NBD_ENOSPC);
  EXPECT_EQ(error_of(EIO), NBD_EIO);
  EXPECT_EQ(error_of(ENOENT), NBD_EIO);
  EXPECT_EQ(error_of(0), NBD_EIO);
}

}  // namespace
}  // namespace wick::image
