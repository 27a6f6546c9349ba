#include "base/buffers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace wick {
namespace {

// "abcdefgh" in four buffers, one of them empty and without an address.
class Buffers : public testing::Test {
 protected:
  static std::string text_of(std::span<const iovec> buffers) {
    std::string text;
    for (const iovec& buffer : buffers)
      text += std::string_view(static_cast<const char*>(buffer.iov_base), buffer.iov_len);
    return text;
  }

  std::string first_ = "abc", second_ = "d", third_ = "efgh";
  const std::vector<iovec> buffers_ = {
      {first_.data(), 3}, {nullptr, 0}, {second_.data(), 1}, {third_.data(), 4}};
};

TEST_F(Buffers, TotalBytesIsTheSumOfTheirLengths) {
  EXPECT_EQ(total_bytes(buffers_), 8u);
  EXPECT_EQ(total_bytes({}), 0u);
}

TEST_F(Buffers, ASliceHasTheBytesOfItsRange) {
  const std::string all = "abcdefgh";
  for (size_t offset = 0; offset <= 10; ++offset)
    for (size_t length = 0; length <= 10; ++length)
      EXPECT_EQ(text_of(slice(buffers_, offset, length)),
                all.substr(std::min(offset, all.size()), length))
          << offset << " " << length;
  EXPECT_EQ(text_of(slice(buffers_, 2, UINT64_MAX)), "cdefgh");
}

TEST_F(Buffers, ASliceHasNoEmptyBuffers) {
  EXPECT_EQ(slice(buffers_, 0, 8).size(), 3u);
  EXPECT_EQ(slice(buffers_, 3, 1).size(), 1u);
  EXPECT_EQ(slice(buffers_, 8, 1).size(), 0u);
  EXPECT_EQ(slice(buffers_, UINT64_MAX, UINT64_MAX).size(), 0u);
}

TEST_F(Buffers, ACursorReadsAcrossThem) {
  BufferCursor cursor(buffers_);
  std::string to(5, '\0');
  EXPECT_EQ(cursor.read({reinterpret_cast<std::byte*>(to.data()), to.size()}), 5u);
  EXPECT_EQ(to, "abcde");
  EXPECT_EQ(cursor.front(2).size(), 2u);
  EXPECT_EQ(cursor.read({reinterpret_cast<std::byte*>(to.data()), to.size()}), 3u);
  EXPECT_EQ(to.substr(0, 3), "fgh");
  EXPECT_TRUE(cursor.front(1).empty());
}

TEST_F(Buffers, ACursorWritesUntilTheyEnd) {
  BufferCursor cursor(buffers_);
  const std::string_view text = "0123456789";
  EXPECT_EQ(cursor.write(as_bytes(text.data(), text.size())), 8u);
  EXPECT_EQ(first_ + second_ + third_, "01234567");
}

}  // namespace
}  // namespace wick
