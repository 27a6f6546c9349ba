// Test fixture: a virtqueue, with a driver.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "virtio/queue.h"

namespace wick::virtio {

using fakes::FakeDriver;
using fakes::memory_of;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr GuestAddress kOutsideRam{kRamBytes + 0x1000};

inline std::string text(std::span<const iovec> buffers) {
  std::string all;
  for (const iovec& buffer : buffers)
    all.append(static_cast<const char*>(buffer.iov_base), buffer.iov_len);
  return all;
}

class VirtQueueTest : public testing::Test {
 protected:
  void start(FakeDriver::Options options) {
    driver_.emplace(memory_, options);
    queue_.emplace(VirtQueue::create(memory_, driver_->layout()).value());
  }

  std::optional<Chain> pop() {
    auto popped = queue_->pop();
    EXPECT_TRUE(popped) << popped.error().message();
    return popped ? *std::move(popped) : std::nullopt;
  }

  // Pops the driver's next chain, which must fail, and returns the error message.
  std::string refusal() {
    auto popped = queue_->pop();
    if (popped) return "nothing";
    // The rings cannot be trusted, so the device must not have returned any chain.
    EXPECT_EQ(driver_->used_index(), 0);
    return popped.error().message();
  }

  // Makes one request and completes it.
  void round_trip() {
    const auto request = driver_->chain().readable("?").writable(1).publish();
    auto chain = pop();
    ASSERT_TRUE(chain);
    std::move(*chain).complete(1);
    ASSERT_EQ(driver_->take_used(), (FakeDriver::Used{request.head, 1}));
  }

  GuestMemory memory_ = memory_of(kRamBytes);
  std::optional<FakeDriver> driver_;
  std::optional<VirtQueue> queue_;
};

}  // namespace wick::virtio
