#include "virtio/queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/wait_for.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using testing::HasSubstr;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr GuestAddress kOutsideRam{kRamBytes + 0x1000};

GuestMemory make_memory() {
  const std::array ranges = {GuestMemory::Range{{0}, kRamBytes}};
  return GuestMemory::create(ranges).value();
}

std::string text(std::span<const iovec> buffers) {
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

  GuestMemory memory_ = make_memory();
  std::optional<FakeDriver> driver_;
  std::optional<VirtQueue> queue_;
};

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

// --- drivers that break the rules ---

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
  const std::array ranges = {GuestMemory::Range{{0}, kRamBytes},
                             GuestMemory::Range{{kRamBytes + 0x1000}, kRamBytes}};
  const auto memory = GuestMemory::create(ranges).value();
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
  const std::array ranges = {GuestMemory::Range{{0}, 5ull << 30}};  // never accessed
  const auto memory = GuestMemory::create(ranges).value();
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

// --- interrupts and notifications ---

TEST_F(VirtQueueTest, WantsAnInterruptOnlyForWhatIsNew) {
  start({});
  EXPECT_FALSE(queue_->interrupt_needed());
  round_trip();
  EXPECT_TRUE(queue_->interrupt_needed());
  EXPECT_FALSE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, SuppressesInterruptsByFlag) {
  start({});
  driver_->refuse_interrupts();
  round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
  driver_->want_interrupts();
  round_trip();
  EXPECT_TRUE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, IgnoresTheFlagWithEventIndex) {
  start({.event_index = true});
  driver_->refuse_interrupts();  // 2.7.7.1: the device must ignore it
  round_trip();
  EXPECT_TRUE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, InterruptsWhenTheUsedIndexPassesTheEventIndex) {
  start({.event_index = true});
  driver_->want_interrupt_after(2);
  round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
  round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
  round_trip();  // writes entry 2
  EXPECT_TRUE(queue_->interrupt_needed());
  round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, InterruptsOnceForABatchOverTheEventIndex) {
  start({.event_index = true});
  driver_->want_interrupt_after(3);
  for (int i = 0; i < 10; ++i) round_trip();
  EXPECT_TRUE(queue_->interrupt_needed());
  for (int i = 0; i < 10; ++i) round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, InterruptsAcrossTheWrapOfTheEventIndex) {
  start({.size = 4, .event_index = true});
  // A driver that requests an interrupt for every chain gets all of them.
  for (int i = 0; i < 70'000; ++i) {
    driver_->want_interrupt_after(static_cast<uint16_t>(i));
    ASSERT_NO_FATAL_FAILURE(round_trip());
    ASSERT_TRUE(queue_->interrupt_needed()) << i;
  }
}

TEST_F(VirtQueueTest, InterruptsForABatchThatWraps) {
  start({.size = 4, .event_index = true});
  for (int i = 0; i < 65'534; ++i) ASSERT_NO_FATAL_FAILURE(round_trip());
  (void)queue_->interrupt_needed();
  for (const uint16_t event : std::to_array<uint16_t>({65535, 0, 3})) {
    driver_->want_interrupt_after(event);
    round_trip();  // entries 65534 and 65535, then 0 and 1, then 2 and 3
    round_trip();
    EXPECT_TRUE(queue_->interrupt_needed()) << event;
  }
}

TEST_F(VirtQueueTest, SilencesTheDriverByFlag) {
  start({});
  queue_->disable_notifications();
  driver_->chain().writable(1).publish();
  EXPECT_FALSE(driver_->kick_wanted());
  EXPECT_TRUE(pop());
  EXPECT_FALSE(queue_->enable_notifications());
  driver_->chain().writable(1).publish();
  EXPECT_TRUE(driver_->kick_wanted());
}

TEST_F(VirtQueueTest, SilencesTheDriverByEventIndex) {
  start({.event_index = true});
  EXPECT_FALSE(queue_->enable_notifications());
  driver_->chain().writable(1).publish();
  EXPECT_TRUE(driver_->kick_wanted());
  queue_->disable_notifications();
  driver_->chain().writable(1).publish();
  EXPECT_FALSE(driver_->kick_wanted());
  EXPECT_TRUE(pop());
  EXPECT_TRUE(pop());
  EXPECT_FALSE(queue_->enable_notifications());
  EXPECT_EQ(driver_->available_event(), 2);
  driver_->chain().writable(1).publish();
  EXPECT_TRUE(driver_->kick_wanted());
}

TEST_F(VirtQueueTest, SaysThatSomethingCameWhileNotificationsWereOff) {
  for (const bool event_index : {false, true}) {
    start({.event_index = event_index});
    queue_->disable_notifications();
    EXPECT_FALSE(pop());
    driver_->chain().writable(1).publish();
    EXPECT_TRUE(queue_->enable_notifications());
  }
}

TEST_F(VirtQueueTest, WantsKicksAcrossTheWrap) {
  start({.size = 4, .event_index = true});
  for (int i = 0; i < 70'000; ++i) {
    ASSERT_FALSE(queue_->enable_notifications());
    const auto request = driver_->chain().writable(1).publish();
    ASSERT_TRUE(driver_->kick_wanted()) << i;
    std::move(*pop()).complete(1);
    ASSERT_EQ(driver_->take_used()->head, request.head);
  }
}

// Both ends sleep whenever the rules allow it: the driver until an interrupt, the device
// until a kick. Neither may sleep forever.
class VirtQueueRace : public VirtQueueTest, public testing::WithParamInterface<bool> {
 protected:
  // Returns without an event only if the test was stopped.
  static bool sleep_until(const EventFd& event) {
    pollfd entry{.fd = event.fd(), .events = POLLIN, .revents = 0};
    (void)::poll(&entry, 1, 100);
    return event.consume();
  }
};

TEST_P(VirtQueueRace, LosesNoWakeUp) {
  constexpr int kRequests = 20'000;
  start({.size = 4, .event_index = GetParam(), .indirect = false});
  EventFd kick = EventFd::create().value();
  EventFd interrupt = EventFd::create().value();
  std::atomic<int> completed = 0;
  std::atomic<bool> stop = false;

  std::thread device([&] {
    while (!stop) {
      if (!sleep_until(kick)) continue;
      do {
        queue_->disable_notifications();
        for (;;) {
          auto popped = queue_->pop();
          ASSERT_TRUE(popped) << popped.error().message();
          if (!*popped) break;
          std::move(**popped).complete(1);
        }
        if (queue_->interrupt_needed()) interrupt.signal();
      } while (queue_->enable_notifications());
    }
  });

  std::thread driver([&] {
    int published = 0;
    while (completed < kRequests && !stop) {
      bool any = false;
      while (published < kRequests && driver_->has_descriptors(1)) {
        driver_->chain().writable(1).publish();
        ++published;
        any = true;
      }
      if (any && driver_->kick_wanted()) kick.signal();
      // Requests an interrupt, checks the ring once more, and sleeps until the interrupt.
      driver_->want_interrupt_after(driver_->used_seen());
      if (driver_->used_index() == driver_->used_seen())
        while (!sleep_until(interrupt) && !stop) continue;
      while (driver_->take_used()) ++completed;
    }
  });

  // On a slow host too, there must always be progress.
  int before = -1;
  while (completed < kRequests && fakes::wait_for([&] { return completed != before; }))
    before = completed;
  stop = true;
  driver.join();
  device.join();
  EXPECT_EQ(completed, kRequests) << "stuck";
}

INSTANTIATE_TEST_SUITE_P(, VirtQueueRace, testing::Bool(),
                         [](const auto& param) { return param.param ? "EventIndex" : "Flags"; });

}  // namespace
}  // namespace wick::virtio
