#include "base/frame_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace wick {
namespace {

// Under AddressSanitizer or valgrind, these also see frames that are too small or leak.

TEST(FramePool, GivesDifferentFramesThatAreLargeEnough) {
  for (int round = 0; round < 3; ++round) {
    std::vector<std::pair<std::byte*, size_t>> frames;
    for (size_t size = 1; size < 3000; size += 37) {
      auto* const frame = static_cast<std::byte*>(FramePool::allocate(size));
      std::memset(frame, static_cast<int>(size % 251), size);
      frames.emplace_back(frame, size);
    }
    for (const auto& [frame, size] : frames) {
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(frame[i], static_cast<std::byte>(size % 251));
      FramePool::release(frame, size);
    }
  }
}

TEST(FramePool, TakesMoreFramesThanItKeeps) {
  std::vector<void*> frames;
  for (int i = 0; i < 2000; ++i) frames.push_back(FramePool::allocate(200));
  for (void* const frame : frames) FramePool::release(frame, 200);
}

TEST(FramePool, AFrameMayEndOnAnotherThread) {
  void* const frame = FramePool::allocate(200);
  std::thread([&] { FramePool::release(frame, 200); }).join();
}

}  // namespace
}  // namespace wick
