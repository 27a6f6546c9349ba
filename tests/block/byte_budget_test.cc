// The limit on the host's memory that requests hold.
#include "block/byte_budget.h"

#include <gtest/gtest.h>

#include <string>

#include "block/compression.h"
#include "block/qcow2/create.h"
#include "block/qcow2/qcow2.h"
#include "block/raw.h"
#include "tests/block/disk_fixture.h"
#include "tests/fakes/memory_file.h"

namespace wick::block {
namespace {

using fakes::finish;
using fakes::MemoryFile;
using fakes::MemoryStore;

constexpr uint64_t kClusterBytes = 2 << 20;
constexpr uint64_t kBudgetBytes = 32 << 20;

TEST(ByteBudget, GivesBytesInTheOrderOfAskingAndNeverTooMany) {
  ByteBudget budget(10);
  std::string order;
  std::vector<std::coroutine_handle<>> holders;
  struct Pause {
    std::vector<std::coroutine_handle<>>& handles;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) const { handles.push_back(handle); }
    void await_resume() const {}
  };
  const auto take = [&](char name, uint64_t bytes) {
    spawn([](ByteBudget& from, uint64_t wanted, char who, std::string& out,
             std::vector<std::coroutine_handle<>>& all) -> Task<void> {
      const auto held = co_await from.take(wanted);
      out += who;
      co_await Pause{all};
    }(budget, bytes, name, order, holders));
  };
  const auto release = [&](size_t index) {
    const auto handle = holders[index];
    holders.erase(holders.begin() + static_cast<std::ptrdiff_t>(index));
    handle.resume();
  };
  take('a', 6);
  take('b', 5);   // waits
  take('c', 1);   // would fit, but waits behind b
  take('d', 0);   // needs nothing
  take('e', 99);  // more than the total: takes all
  EXPECT_EQ(order, "ad");
  release(0);
  EXPECT_EQ(order, "adbc");
  while (order.size() < 5) release(0);
  EXPECT_EQ(order, "adbce");
  while (!holders.empty()) release(0);
}

// Thousands of waiters must not nest thousands of calls.
TEST(ByteBudget, TakesNoStackForThoseThatWait) {
  ByteBudget budget(1);
  int done = 0;
  {
    auto first = budget.take(1);
    ASSERT_TRUE(first.await_ready());
    const auto held = first.await_resume();
    for (int i = 0; i < 100'000; ++i)
      spawn([](ByteBudget& from, int& count) -> Task<void> {
        const auto mine = co_await from.take(1);
        ++count;
      }(budget, done));
    EXPECT_EQ(done, 0);
  }
  EXPECT_EQ(done, 100'000);
}

// An image of 2 MiB clusters over a base, the worst case for memory.
class LargeClusters : public testing::Test {
 protected:
  void make(uint64_t clusters) {
    size_bytes_ = clusters * kClusterBytes;
    MemoryFile file(store_);
    const Qcow2CreateOptions options{.size_bytes = size_bytes_, .cluster_bytes = kClusterBytes};
    ASSERT_TRUE(finish(create_qcow2(file, nullptr, options)));
    disk_ =
        finish(Qcow2::open(std::make_unique<MemoryFile>(store_), {.cache_bytes = 1 << 20})).value();
  }

  // Completes the held operations, the oldest first; returns how many were held at once.
  size_t drain() {
    size_t most = 0;
    while (!store_.held.empty()) {
      most = std::max(most, store_.held.size());
      store_.complete(0);
    }
    return most;
  }

  MemoryStore store_;
  uint64_t size_bytes_ = 0;
  std::unique_ptr<Qcow2> disk_;
};

TEST_F(LargeClusters, OfSmallWritesHoldABoundedNumberOfBytes) {
  constexpr size_t kWrites = 40;
  make(kWrites);
  MemoryStore& base = store_.add_beside();
  std::vector<std::vector<std::byte>> expected;
  for (size_t i = 0; i < kWrites; ++i) {
    expected.push_back(pattern(4096, static_cast<uint32_t>(i)));
    base.bytes.write(i * kClusterBytes, expected.back());
  }
  base.bytes.resize(size_bytes_);
  disk_->set_backing(open_raw(std::make_unique<MemoryFile>(base), {.read_only = true}).value());
  const auto written = pattern(512, 1000);
  const iovec buffer = to_iovec(written);
  size_t done = 0;
  store_.holds = true;
  for (size_t i = 0; i < kWrites; ++i)
    spawn([](Qcow2& disk, uint64_t offset, const iovec& from, size_t& count) -> Task<void> {
      EXPECT_TRUE(co_await disk.write(offset, {&from, 1}));
      ++count;
    }(*disk_, i * kClusterBytes + 512, buffer, done));
  const size_t most = drain();
  EXPECT_EQ(done, kWrites);
  EXPECT_LE(most, kBudgetBytes / (kClusterBytes - 512) + 2);
  store_.holds = false;
  for (size_t i = 0; i < kWrites; ++i) {
    std::ranges::copy(written, expected[i].begin() + 512);
    std::vector<std::byte> back(4096);
    const iovec to = to_iovec(back);
    ASSERT_TRUE(finish(disk_->read(i * kClusterBytes, {&to, 1})));
    EXPECT_TRUE(back == expected[i]) << i;
  }
}

TEST_F(LargeClusters, ThatAreCompressedHoldABoundedNumberOfBytes) {
  constexpr size_t kReads = 24;
  make(kReads);
  for (size_t i = 0; i < kReads; ++i) {
    const std::vector<std::byte> cluster(kClusterBytes, static_cast<std::byte>(i + 1));
    const auto packed = qcow2::compress(disk_->header().compression, cluster);
    ASSERT_FALSE(packed.empty());
    ASSERT_TRUE(finish(disk_->write_compressed(i * kClusterBytes, packed)));
  }
  size_t done = 0;
  store_.holds = true;
  for (size_t i = 0; i < kReads; ++i)
    spawn([](Qcow2& disk, uint64_t number, size_t& count) -> Task<void> {
      std::vector<std::byte> back(512);
      const iovec to = to_iovec(back);
      EXPECT_TRUE(co_await disk.read(number * kClusterBytes + 512, {&to, 1}));
      EXPECT_EQ(back, std::vector<std::byte>(512, static_cast<std::byte>(number + 1)));
      ++count;
    }(*disk_, i, done));
  EXPECT_LE(drain(), kBudgetBytes / kClusterBytes);
  EXPECT_EQ(done, kReads);
}

// A write that copies a compressed cluster up needs both kinds of memory.
TEST_F(LargeClusters, ThatAreCompressedAndWrittenInPartDoNotWaitForEachOther) {
  constexpr size_t kWrites = 24;
  make(kWrites);
  for (size_t i = 0; i < kWrites; ++i) {
    const std::vector<std::byte> cluster(kClusterBytes, static_cast<std::byte>(i + 1));
    const auto packed = qcow2::compress(disk_->header().compression, cluster);
    ASSERT_TRUE(finish(disk_->write_compressed(i * kClusterBytes, packed)));
  }
  const auto written = pattern(512, 1000);
  const iovec buffer = to_iovec(written);
  size_t done = 0;
  store_.holds = true;
  for (size_t i = 0; i < kWrites; ++i)
    spawn([](Qcow2& disk, uint64_t offset, const iovec& from, size_t& count) -> Task<void> {
      EXPECT_TRUE(co_await disk.write(offset, {&from, 1}));
      ++count;
    }(*disk_, i * kClusterBytes + 512, buffer, done));
  drain();
  EXPECT_EQ(done, kWrites);
}

}  // namespace
}  // namespace wick::block
