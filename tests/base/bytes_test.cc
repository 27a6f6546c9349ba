#include "base/bytes.h"

#include <gtest/gtest.h>

#include <array>

namespace wick {
namespace {

TEST(Bytes, LoadsLittleEndian) {
  const std::array<std::byte, 5> bytes = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                                          std::byte{5}};
  EXPECT_EQ(load_le<uint8_t>(bytes), 1u);
  EXPECT_EQ(load_le<uint32_t>(bytes), 0x04030201u);
  EXPECT_EQ(load_le<uint64_t>(bytes), 0x0504030201u);  // too few: zeroes on top
  EXPECT_EQ(load_le<uint32_t>(std::span<const std::byte>()), 0u);
}

TEST(Bytes, StoresAsMuchAsThereIsRoomFor) {
  std::array<std::byte, 8> bytes;
  bytes.fill(std::byte{0xaa});
  store_le(std::span(bytes).first(2), 0x11223344u);
  EXPECT_EQ(load_le<uint64_t>(bytes), 0xaaaaaaaaaaaa3344u);
  store_le(std::span(bytes), uint16_t{0x5566});
  EXPECT_EQ(load_le<uint64_t>(bytes), 0x5566u);
  store_le(std::span(bytes).first(0), 1u);
}

TEST(Bytes, AlignsUpward) {
  EXPECT_EQ(align_up(0, 4096), 0u);
  EXPECT_EQ(align_up(1, 4096), 4096u);
  EXPECT_EQ(align_up(4096, 4096), 4096u);
  EXPECT_EQ(align_up(4097, 512), 4608u);
}

}  // namespace
}  // namespace wick
