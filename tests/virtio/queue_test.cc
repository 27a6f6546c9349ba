// Tests virtqueues with drivers that keep the rules.
#include "virtio/queue.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/virtio/queue_fixture.h"

namespace wick::virtio {
namespace {

// --- well-behaved drivers ---

TEST_F(VirtQueueTest, IsEmptyUntilTheDriverPublishes) {
  start({});
  EXPECT_FALSE(pop());
  driver_->chain().readable("x").stage();
  EXPECT_FALSE(pop());
}

TEST_F(VirtQueueTest, HandsOverBuffersInOrderReadableFirst) {
  start({});
  driver_->chain().readable("he").readable("ad").writable(3).writable(4).publish();
  auto chain = pop();
  ASSERT_TRUE(chain);
  EXPECT_EQ(text(chain->readable()), "head");
  ASSERT_EQ(chain->writable().size(), 2u);
  EXPECT_EQ(chain->writable()[0].iov_len, 3u);
  EXPECT_EQ(chain->writable()[1].iov_len, 4u);
}

TEST_F(VirtQueueTest, ReturnsACompletedChainWithItsHeadAndLength) {
  start({});
  const auto request = driver_->chain().readable("q").writable(8).publish();
  auto chain = pop();
  std::memcpy(chain->writable()[0].iov_base, "answer", 6);
  std::move(*chain).complete(6);
  EXPECT_EQ(driver_->take_used(), (FakeDriver::Used{request.head, 6}));
  EXPECT_EQ(std::memcmp(request.writable[0].data(), "answer", 6), 0);
}

TEST_F(VirtQueueTest, FollowsAnIndirectTable) {
  start({.indirect = true});
  const auto request =
      driver_->chain().readable("in").readable("direct").writable(9).indirect().publish();
  auto chain = pop();
  ASSERT_TRUE(chain);
  EXPECT_EQ(text(chain->readable()), "indirect");
  EXPECT_EQ(chain->writable()[0].iov_base, request.writable[0].data());
}

TEST_F(VirtQueueTest, FollowsAnIndirectTableThatEndsADirectChain) {
  start({.indirect = true});  // 2.7.5.3.1 allows buffers in front of the table
  const auto tail = driver_->chain().readable("tail").indirect().stage();
  const auto front = driver_->chain().readable("front,").stage();
  vring_desc first = driver_->descriptor(front.head);
  first.flags |= VRING_DESC_F_NEXT;
  first.next = tail.head;
  driver_->write_descriptor(front.head, first);
  driver_->make_available(front.head);
  auto chain = pop();
  ASSERT_TRUE(chain);
  EXPECT_EQ(text(chain->readable()), "front,tail");
}

TEST_F(VirtQueueTest, TakesAChainAsLongAsTheQueue) {
  for (const bool indirect : {false, true}) {
    start({.size = 8});
    auto builder = driver_->chain();
    for (int i = 0; i < 8; ++i) builder.readable("x");
    if (indirect) builder.indirect();
    builder.publish();
    auto chain = pop();
    ASSERT_TRUE(chain);
    EXPECT_EQ(chain->readable().size(), 8u);
  }
}

TEST_F(VirtQueueTest, CompletesChainsInAnyOrder) {
  start({});
  const auto first = driver_->chain().writable(1).publish();
  const auto second = driver_->chain().writable(1).publish();
  auto a = pop();
  auto b = pop();
  std::move(*b).complete(22);
  std::move(*a).complete(11);
  EXPECT_EQ(driver_->take_used(), (FakeDriver::Used{second.head, 22}));
  EXPECT_EQ(driver_->take_used(), (FakeDriver::Used{first.head, 11}));
  EXPECT_FALSE(driver_->take_used());
}

TEST_F(VirtQueueTest, ReturnsADroppedChainWithLengthZero) {
  start({});
  const auto request = driver_->chain().writable(1).publish();
  {
    auto dropped = pop();
    EXPECT_FALSE(driver_->take_used());
  }
  EXPECT_EQ(driver_->take_used(), (FakeDriver::Used{request.head, 0}));
}

TEST_F(VirtQueueTest, ReturnsAMovedChainOnce) {
  start({});
  driver_->chain().writable(1).publish();
  {
    auto chain = pop();
    Chain owner = *std::move(chain);
    std::move(owner).complete(1);
  }
  EXPECT_EQ(driver_->used_index(), 1);
}

TEST_F(VirtQueueTest, ShowsCompletionsThatWereHeldAllAtOnce) {
  start({});
  for (int i = 0; i < 4; ++i) driver_->chain().writable(1).publish();
  std::vector<Chain> chains;
  for (int i = 0; i < 4; ++i) chains.push_back(*pop());
  queue_->hold_completions();
  std::move(chains[0]).complete(1);
  std::move(chains[1]).complete(1);
  { const Chain abandoned = std::move(chains[2]); }
  EXPECT_EQ(driver_->used_index(), 0);
  queue_->publish_completions();
  EXPECT_EQ(driver_->used_index(), 3);
  EXPECT_TRUE(queue_->interrupt_needed());
  std::move(chains[3]).complete(1);
  EXPECT_EQ(driver_->used_index(), 4) << "no longer held";
}

TEST_F(VirtQueueTest, CountsTheDescriptorsOfTheRingThatAChainTakes) {
  start({});
  driver_->chain().readable("a").writable(1).writable(1).publish();
  EXPECT_EQ(pop()->descriptor_count(), 3u);
  driver_->chain().readable("a").writable(1).writable(1).indirect().publish();
  EXPECT_EQ(pop()->descriptor_count(), 1u);
}

TEST_F(VirtQueueTest, GoesOnAfterTheIndicesWrap) {
  start({.size = 4});
  for (int i = 0; i < 70'000; ++i) ASSERT_NO_FATAL_FAILURE(round_trip());
  EXPECT_EQ(driver_->used_index(), 70'000 % 65536);
}

// --- rings in the wrong place ---

TEST_F(VirtQueueTest, RefusesSizesThatAreNoPowerOfTwo) {
  FakeDriver driver(memory_, {});
  for (const uint16_t size : std::to_array<uint16_t>({0, 3, 5, 255, 2048, 32768, 65535})) {
    QueueLayout layout = driver.layout();
    layout.size = size;
    EXPECT_FALSE(VirtQueue::create(memory_, layout)) << size;
  }
  for (uint16_t size = 1; size <= VirtQueue::kMaxSize; size = static_cast<uint16_t>(size * 2)) {
    QueueLayout layout = driver.layout();
    layout.size = size;
    layout.driver_area = {0x100000};
    layout.device_area = {0x200000};
    EXPECT_TRUE(VirtQueue::create(memory_, layout)) << size;
  }
}

TEST_F(VirtQueueTest, RefusesMisalignedRings) {
  FakeDriver driver(memory_, {});
  for (const uint64_t off : std::to_array<uint64_t>({1, 2, 4, 8})) {
    QueueLayout layout = driver.layout();
    layout.descriptors.value += off;
    EXPECT_FALSE(VirtQueue::create(memory_, layout)) << off;
  }
  QueueLayout layout = driver.layout();
  layout.driver_area.value += 1;
  EXPECT_FALSE(VirtQueue::create(memory_, layout));
  layout = driver.layout();
  layout.device_area.value += 2;
  EXPECT_FALSE(VirtQueue::create(memory_, layout));
}

TEST_F(VirtQueueTest, RefusesRingsThatLeaveRam) {
  const FakeDriver driver(memory_, {.size = 16});
  const std::array<GuestAddress QueueLayout::*, 3> areas = {
      &QueueLayout::descriptors, &QueueLayout::driver_area, &QueueLayout::device_area};
  const std::array<uint64_t, 3> sizes = {16 * 16, 6 + 2 * 16, 6 + 8 * 16};
  for (size_t i = 0; i < areas.size(); ++i) {
    QueueLayout layout = driver.layout();
    for (const uint64_t wild :
         std::to_array<uint64_t>({kRamBytes, kRamBytes - 16, ~0ull - 15, 1ull << 63})) {
      layout.*areas[i] = {wild};
      EXPECT_FALSE(VirtQueue::create(memory_, layout)) << wild;
    }
    // The last address at which the ring fits into RAM, with its event index.
    layout.*areas[i] = {(kRamBytes - sizes[i]) & ~15ull};
    EXPECT_TRUE(VirtQueue::create(memory_, layout));
  }
}

}  // namespace
}  // namespace wick::virtio
