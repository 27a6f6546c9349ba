// Tests virtqueues with drivers that break the rules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/virtio/queue_fixture.h"

namespace wick::virtio {
namespace {

using testing::HasSubstr;

TEST_F(VirtQueueTest, RejectsCyclicChain) {
  start({.size = 16});
  for (uint16_t i = 0; i < 4; ++i)
    driver_->write_descriptor(i, {driver_->buffer_area().value, 1, VRING_DESC_F_NEXT,
                                  static_cast<uint16_t>((i + 1) % 4)});
  driver_->make_available(0);
  EXPECT_THAT(refusal(), HasSubstr("loop"));
}

TEST_F(VirtQueueTest, RejectsDescriptorThatIsItsOwnNext) {
  start({.size = 1});
  driver_->write_descriptor(0, {driver_->buffer_area().value, 1, VRING_DESC_F_NEXT, 0});
  driver_->make_available(0);
  EXPECT_THAT(refusal(), HasSubstr("loop"));
}

TEST_F(VirtQueueTest, RejectsCyclicIndirectTable) {
  start({.size = 16});
  const auto request = driver_->chain().readable("a").readable("b").indirect().publish();
  const GuestAddress table{driver_->descriptor(request.head).addr};
  auto last = memory_.read<vring_desc>(table + 16).value();
  last.flags |= VRING_DESC_F_NEXT;
  last.next = 0;
  ASSERT_TRUE(memory_.write(table + 16, last));
  EXPECT_THAT(refusal(), HasSubstr("loop"));
}

TEST_F(VirtQueueTest, RejectsIndirectChainLongerThanTheQueue) {
  start({.size = 8});
  auto builder = driver_->chain();
  for (int i = 0; i < 9; ++i) builder.readable("x");
  builder.indirect().publish();
  EXPECT_THAT(refusal(), HasSubstr("too long"));
}

// Linux may make rings smaller, but its chains are limited only by the device's seg_max.
TEST_F(VirtQueueTest, TakesAnIndirectChainAsLongAsTheDeviceAllows) {
  start({.size = 4, .max_chain = 9});
  auto builder = driver_->chain();
  for (int i = 0; i < 9; ++i) builder.readable("x");
  builder.indirect().publish();
  const auto chain = pop();
  ASSERT_TRUE(chain);
  EXPECT_EQ(text(chain->readable()), "xxxxxxxxx");
}

TEST_F(VirtQueueTest, RejectsIndirectChainLongerThanTheDeviceAllows) {
  start({.size = 4, .max_chain = 9});
  auto builder = driver_->chain();
  for (int i = 0; i < 10; ++i) builder.readable("x");
  builder.indirect().publish();
  EXPECT_THAT(refusal(), HasSubstr("too long"));
}

TEST_F(VirtQueueTest, RejectsACyclicChainWhateverTheDeviceAllows) {
  start({.size = 4, .max_chain = 512});
  driver_->write_descriptor(0, {driver_->buffer_area().value, 1, VRING_DESC_F_NEXT, 1});
  driver_->write_descriptor(1, {driver_->buffer_area().value, 1, VRING_DESC_F_NEXT, 0});
  driver_->make_available(0);
  EXPECT_THAT(refusal(), HasSubstr("too long"));
}

TEST_F(VirtQueueTest, RejectsDirectChainWithATailLongerThanTheQueue) {
  start({.size = 4});
  auto builder = driver_->chain();
  for (int i = 0; i < 4; ++i) builder.readable("x");
  const auto tail = builder.indirect().stage();
  const auto front = driver_->chain().readable("front").stage();
  vring_desc first = driver_->descriptor(front.head);
  first.flags |= VRING_DESC_F_NEXT;
  first.next = tail.head;
  driver_->write_descriptor(front.head, first);
  driver_->make_available(front.head);
  EXPECT_THAT(refusal(), HasSubstr("too long"));
}

TEST_F(VirtQueueTest, RejectsNestedIndirectTable) {
  start({});
  const auto inner = driver_->chain().readable("x").indirect().stage();
  const vring_desc nested = driver_->descriptor(inner.head);
  const GuestAddress table = driver_->take_buffer(16);
  ASSERT_TRUE(memory_.write(table, nested));
  driver_->write_descriptor(5, {table.value, 16, VRING_DESC_F_INDIRECT, 0});
  driver_->make_available(5);
  EXPECT_THAT(refusal(), HasSubstr("nests"));
}

TEST_F(VirtQueueTest, RejectsIndirectTableThatIsNotTheEnd) {
  start({});
  const auto request = driver_->chain().readable("x").indirect().publish();
  vring_desc table = driver_->descriptor(request.head);
  table.flags |= VRING_DESC_F_NEXT;
  driver_->write_descriptor(request.head, table);
  EXPECT_THAT(refusal(), HasSubstr("continues after"));
}

TEST_F(VirtQueueTest, RejectsIndirectTableThatWasNotNegotiated) {
  start({.indirect = false});
  driver_->chain().readable("x").indirect().publish();
  EXPECT_THAT(refusal(), HasSubstr("not negotiated"));
}

TEST_F(VirtQueueTest, RejectsIndirectTablesOfOddSizes) {
  for (const uint32_t bytes : {0u, 1u, 15u, 17u, 0xffffffffu}) {
    start({});
    driver_->write_descriptor(0, {driver_->buffer_area().value, bytes, VRING_DESC_F_INDIRECT, 0});
    driver_->make_available(0);
    EXPECT_THAT(refusal(), HasSubstr("indirect table")) << bytes;
  }
}

TEST_F(VirtQueueTest, RejectsIndirectTableThatLeavesRam) {
  for (const uint64_t at : std::to_array<uint64_t>({kRamBytes - 16, kRamBytes, ~0ull - 15})) {
    start({});
    driver_->write_descriptor(0, {at, 32, VRING_DESC_F_INDIRECT, 0});
    driver_->make_available(0);
    EXPECT_THAT(refusal(), HasSubstr("not RAM")) << at;
  }
}

TEST_F(VirtQueueTest, RejectsBuffersThatLeaveRam) {
  struct Wild {
    uint64_t address;
    uint32_t length_bytes;
  };
  for (const Wild& wild :
       {Wild{kOutsideRam.value, 1}, Wild{kRamBytes - 1, 2}, Wild{kRamBytes - 4096, 8192},
        Wild{0, 0xffffffff}, Wild{~0ull, 1}, Wild{~0ull - 10, 0x1000}, Wild{1ull << 63, 16}}) {
    start({});
    driver_->chain().readable("ok").writable_at({wild.address}, wild.length_bytes).publish();
    EXPECT_THAT(refusal(), HasSubstr("not RAM")) << wild.address;
  }
}

TEST_F(VirtQueueTest, RejectsBufferOverTheHoleBetweenTwoRegions) {
  const auto memory = memory_of({{{0}, kRamBytes}, {{kRamBytes + 0x1000}, kRamBytes}});
  FakeDriver driver(memory, {});
  auto queue = VirtQueue::create(memory, driver.layout()).value();
  driver.chain().writable_at({kRamBytes - 0x1000}, 0x3000).publish();
  EXPECT_FALSE(queue.pop());
}

TEST_F(VirtQueueTest, RejectsNextOutOfRange) {
  for (const uint16_t next : std::to_array<uint16_t>({16, 17, 65535})) {
    start({.size = 16});
    driver_->write_descriptor(0, {driver_->buffer_area().value, 1, VRING_DESC_F_NEXT, next});
    driver_->make_available(0);
    EXPECT_THAT(refusal(), HasSubstr("not in a table of 16")) << next;
  }
}

TEST_F(VirtQueueTest, RejectsNextPastTheEndOfAnIndirectTable) {
  start({.size = 16});
  const auto request = driver_->chain().readable("a").readable("b").indirect().publish();
  const GuestAddress table{driver_->descriptor(request.head).addr};
  auto first = memory_.read<vring_desc>(table).value();
  first.next = 2;  // inside the queue's table, but not inside this indirect table
  ASSERT_TRUE(memory_.write(table, first));
  EXPECT_THAT(refusal(), HasSubstr("not in a table of 2"));
}

TEST_F(VirtQueueTest, RejectsHeadOutOfRange) {
  for (const uint16_t head : std::to_array<uint16_t>({16, 255, 65535})) {
    start({.size = 16});
    driver_->make_available(head);
    EXPECT_THAT(refusal(), HasSubstr("head")) << head;
  }
}

TEST_F(VirtQueueTest, RejectsAvailableIndexThatJumps) {
  for (const uint16_t index : std::to_array<uint16_t>({17, 1000, 32768, 65535})) {
    start({.size = 16});
    driver_->set_available_index(index);
    EXPECT_THAT(refusal(), HasSubstr("available index")) << index;
  }
}

TEST_F(VirtQueueTest, RejectsReadableBufferAfterWritable) {
  for (const bool indirect : {false, true}) {
    start({});
    auto builder = driver_->chain();
    builder.writable(4).readable("late");
    if (indirect) builder.indirect();
    builder.publish();
    EXPECT_THAT(refusal(), HasSubstr("after a writable"));
  }
}

// 2.7.5.1: a chain has at most 2^32 bytes; otherwise its used length would wrap.
TEST_F(VirtQueueTest, RejectsChainOfMoreThanFourGigabytes) {
  const auto memory = memory_of(5ull << 30);  // never accessed
  FakeDriver driver(memory, {});
  auto queue = VirtQueue::create(memory, driver.layout()).value();
  driver.chain().writable_at({0x1000000}, 0xffffffff).writable_at({0x1000000}, 2).publish();
  EXPECT_FALSE(queue.pop());
}

TEST_F(VirtQueueTest, RejectsMoreChainsAtOnceThanTheRingHasEntries) {
  start({.size = 4});
  std::vector<Chain> chains;
  for (uint16_t i = 0; i < 4; ++i) {
    driver_->chain().writable(1).publish();
    chains.push_back(*pop());
  }
  driver_->make_available(0);  // again, while the device uses the chain
  EXPECT_THAT(refusal(), HasSubstr("more than 4"));
}

TEST_F(VirtQueueTest, SurvivesAHeadThatIsUsedTwice) {
  start({.size = 4});
  const auto request = driver_->chain().writable(1).publish();
  driver_->make_available(request.head);
  auto first = pop();
  auto second = pop();
  std::move(*first).complete(1);
  std::move(*second).complete(1);
  EXPECT_EQ(driver_->used_index(), 2);
  EXPECT_EQ(driver_->used_entry(0), driver_->used_entry(1));
}

TEST_F(VirtQueueTest, KeepsWhatItCheckedWhenTheDriverChangesItsMind) {
  start({});
  const auto request = driver_->chain().readable("checked").writable(4).publish();
  auto chain = pop();
  // Now all descriptors point outside RAM.
  for (uint16_t i = 0; i < 16; ++i)
    driver_->write_descriptor(i, {kOutsideRam.value, 0xffffffff, VRING_DESC_F_NEXT, i});
  EXPECT_EQ(text(chain->readable()), "checked");
  EXPECT_EQ(chain->writable()[0].iov_base, request.writable[0].data());
  EXPECT_EQ(chain->writable()[0].iov_len, 4u);
  std::move(*chain).complete(4);
  EXPECT_EQ(driver_->used_entry(0), (FakeDriver::Used{request.head, 4}));
}

// A driver thread switches a chain between valid and invalid addresses while the device
// walks it: a popped chain must always be inside RAM.
TEST_F(VirtQueueTest, NeverHandsOutABufferOutsideRamWhileDescriptorsChange) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the guest's race is the point of this test";
#endif
  start({.size = 16});
  const std::span<std::byte> ram = memory_.slice({0}, kRamBytes).value();
  std::atomic<bool> stop = false;
  // Writes atomic words, so that the test itself has no undefined behaviour.
  const auto word = [&](uint16_t index, size_t i) {
    const GuestAddress at = driver_->layout().descriptors + (16ull * index + 8 * i);
    return std::atomic_ref(*reinterpret_cast<uint64_t*>(driver_->host(at, 8).data()));
  };
  std::thread rewriter([&] {
    const std::array<uint64_t, 4> addresses = {0x100000, kRamBytes - 8, ~0ull - 4, kRamBytes};
    for (uint32_t i = 0; !stop; ++i) {
      const auto index = static_cast<uint16_t>(i % 3);
      word(index, 0).store(addresses[i % 4], std::memory_order_relaxed);
      const uint64_t length = i % 5 == 0 ? 0xffffffff : 8;
      const uint64_t flags = i % 7 == 0 ? 0 : VRING_DESC_F_NEXT;
      word(index, 1).store(length | flags << 32 | (i + 1ull) % 3 << 48, std::memory_order_relaxed);
    }
  });
  int handed_out = 0;
  for (int i = 0; i < 50'000; ++i) {
    // Makes a new queue each time, because a broken queue stays broken.
    auto queue = VirtQueue::create(memory_, driver_->layout()).value();
    driver_->set_available_index(1);
    auto popped = queue.pop();
    if (!popped || !*popped) continue;
    ++handed_out;
    for (const iovec& buffer : (*popped)->readable()) {
      const auto* start = static_cast<const std::byte*>(buffer.iov_base);
      ASSERT_GE(start, ram.data());
      ASSERT_LE(start + buffer.iov_len, ram.data() + ram.size());
    }
  }
  stop = true;
  rewriter.join();
  RecordProperty("chains_handed_out", handed_out);
}

}  // namespace
}  // namespace wick::virtio
