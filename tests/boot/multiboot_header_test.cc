#include "boot/multiboot_header.h"

#include <gtest/gtest.h>

#include "tests/boot/kernel_files.h"

namespace wick::boot {
namespace {

constexpr size_t kShortBytes = 12;
constexpr size_t kLongBytes = 32;

Bytes with_header_at(size_t offset, size_t size, MultibootImage::Header header = {}) {
  MultibootImage image;
  image.header = header;
  Bytes bytes(std::max(size, offset + sizeof(header)));
  image.put_header(bytes, offset);
  bytes.resize(size);
  return bytes;
}

TEST(MultibootHeaderTest, IsFoundWithItsAddresses) {
  const auto found = find_multiboot_header(with_header_at(0x100, 4096));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->flags, MultibootHeader::kAddresses);
  EXPECT_EQ(found->file_offset, 0x100u);
  EXPECT_EQ(found->header_addr, 0x100040u);
  EXPECT_EQ(found->load_addr, 0x100000u);
  EXPECT_EQ(found->load_end_addr, 0x101000u);
  EXPECT_EQ(found->bss_end_addr, 0x102000u);
  EXPECT_EQ(found->entry_addr, 0x100080u);
}

TEST(MultibootHeaderTest, WithoutAddressesHasThreeFields) {
  const auto found = find_multiboot_header(with_header_at(0, kShortBytes, {.flags = 3}));
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, (MultibootHeader{.flags = 3}));
}

// 3.1: it is aligned, and lies completely within the first 8192 bytes.
TEST(MultibootHeaderTest, LiesWithinTheFirst8KiB) {
  constexpr size_t kEnd = MultibootHeader::kSearchBytes;
  EXPECT_TRUE(find_multiboot_header(with_header_at(kEnd - kLongBytes, 16384)));
  EXPECT_FALSE(find_multiboot_header(with_header_at(kEnd - kLongBytes + 4, 16384)));
  EXPECT_TRUE(find_multiboot_header(with_header_at(kEnd - kShortBytes, 16384, {.flags = 1})));
  EXPECT_FALSE(find_multiboot_header(with_header_at(kEnd - kShortBytes + 4, 16384, {.flags = 1})));
  EXPECT_FALSE(find_multiboot_header(with_header_at(kEnd, 16384)));
  for (const size_t unaligned : {1, 2, 3, 0x41})
    EXPECT_FALSE(find_multiboot_header(with_header_at(unaligned, 4096))) << unaligned;
}

TEST(MultibootHeaderTest, WithAWrongChecksumIsNone) {
  EXPECT_FALSE(find_multiboot_header(with_header_at(0, 4096, {.checksum = 1})));
  Bytes bytes = with_header_at(0, 4096, {.checksum = 1});
  MultibootImage().put_header(bytes, 0x200);
  const auto found = find_multiboot_header(bytes);
  ASSERT_TRUE(found) << "the search goes on behind what only looks like a header";
  EXPECT_EQ(found->file_offset, 0x200u);
}

TEST(MultibootHeaderTest, OfAFileCutShortAnywhereIsNone) {
  for (size_t size = 0; size < 0x40 + kLongBytes; ++size)
    EXPECT_FALSE(find_multiboot_header(with_header_at(0x40, size))) << size;
}

}  // namespace
}  // namespace wick::boot
