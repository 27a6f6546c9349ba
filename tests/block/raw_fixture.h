// Test fixture: a raw disk.
#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "block/raw.h"
#include "tests/block/disk_fixture.h"

namespace wick::block {

constexpr uint64_t kMiB = 1 << 20;
constexpr ImageOptions kRaw = {.format = Format::kRaw};

inline bool all_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

class RawDisk : public DiskFixture {
 protected:
  // Opens the scratch file for cache=none; false if the file system does not support it.
  bool open_direct() {
    const Fd probe(::open(path_.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!probe.valid()) return false;
    EXPECT_TRUE(open({.format = Format::kRaw, .cache = Cache::kNone}));
    return true;
  }

  // Random reads and writes of any alignment, cut into any buffers, checked
  // against a copy.
  void exercise(uint64_t size_bytes, uint32_t seed, bool aligned_half_of_the_time) {
    std::minstd_rand random(seed);
    const auto below = [&](uint64_t limit) { return random() % limit; };
    std::vector<std::byte> model(size_bytes);
    auto* arena = static_cast<std::byte*>(std::aligned_alloc(4096, kMiB));
    for (int i = 0; i < 400; ++i) {
      const bool aligned = aligned_half_of_the_time && below(2) == 0;
      const uint64_t unit = aligned ? 4096 : 1;
      const uint64_t offset = below(size_bytes / unit) * unit;
      uint64_t left = std::min(below(100'000), size_bytes - offset) / unit * unit;
      std::vector<iovec> buffers;
      std::byte* at = arena;
      while (left > 0) {
        const uint64_t part = aligned ? (1 + below(left / 4096)) * 4096 : 1 + below(left);
        buffers.push_back({at, part});
        at += part;
        left -= part;
      }
      const auto length = static_cast<size_t>(at - arena);
      const auto in_model = std::span(model).subspan(offset, length);
      if (below(2) == 0) {
        const auto data = pattern(length, static_cast<uint32_t>(random()));
        std::ranges::copy(data, arena);
        std::ranges::copy(data, in_model.begin());
        ASSERT_TRUE(write(offset, buffers));
      } else {
        std::memset(arena, 0xcc, length);
        ASSERT_TRUE(read(offset, buffers));
        ASSERT_TRUE(std::ranges::equal(std::span(arena, length), in_model)) << offset;
      }
    }
    EXPECT_EQ(read_bytes(0, size_bytes), model);
    ASSERT_TRUE(flush());
    std::free(arena);
    EXPECT_EQ(file_content(), model);
  }
};

}  // namespace wick::block
