// The allocator by itself.
#include "block/qcow2/refcounts.h"

#include <gtest/gtest.h>

#include "block/qcow2/header.h"
#include "tests/block/qcow2/images.h"

namespace wick::block::qcow2 {
namespace {

using fakes::FileOperation;
using fakes::finish;

// An image with many full refcount blocks, which do not stay in memory.
class RefcountsTest : public testing::Test {
 protected:
  static constexpr SmallShape kFull = {"", "cluster_size=512", 4 << 20, false, "-c 'write 0 4M'"};

  RefcountsTest() {
    ImageFolder::fill(store_, folder_.create(kFull));
    header_ = finish(read_header(file_)).value();
    auto table = finish(read_table(file_, header_.refcount_table_offset,
                                   header_.refcount_table_clusters * header_.cluster_bytes() / 8));
    refcounts_.emplace(file_, header_, *std::move(table), 1, [](ClusterRun) { return false; });
    store_.fault = [this](const FileOperation& operation) {
      if (operation.kind == FileOperation::Kind::kRead) ++reads_;
      return 0;
    };
  }
  void write_out() {
    auto copies = refcounts_->take_dirty();
    ASSERT_TRUE(finish(refcounts_->write_blocks(copies)));
    ASSERT_TRUE(finish(refcounts_->write_table(copies)));
    refcounts_->written(copies);
  }

  ImageFolder folder_;
  fakes::MemoryStore store_;
  fakes::MemoryFile file_{store_};
  Header header_;
  std::optional<Refcounts> refcounts_;
  int reads_ = 0;
};

TEST_F(RefcountsTest, ATableIsNotLookedForAgainWhereNothingIsFree) {
  ASSERT_TRUE(finish(refcounts_->allocate_table(1)));
  EXPECT_GT(reads_, 4);  // all blocks
  reads_ = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(finish(refcounts_->allocate_table(1)));
    write_out();
  }
  EXPECT_LT(reads_, 150);
}

TEST_F(RefcountsTest, WhatATableSkipsIsTakenByTheNextThatFits) {
  const uint64_t low = 300, end = *finish(refcounts_->allocate_table(1)) + 1;
  ASSERT_TRUE(finish(refcounts_->decrement({low, 1})));
  ASSERT_TRUE(finish(refcounts_->decrement({low + 2, 1})));
  EXPECT_EQ(finish(refcounts_->allocate_table(2)).value(), end);
  EXPECT_EQ(finish(refcounts_->get(low)).value(), 0u);
  EXPECT_EQ(finish(refcounts_->allocate_table(1)).value(), low);
  EXPECT_EQ(finish(refcounts_->allocate(5)).value().first, low + 2);
  EXPECT_EQ(finish(refcounts_->allocate_table(1)).value(), end + 2);
}

// Also if no row of free clusters is large enough: then all found clusters are given back.
TEST_F(RefcountsTest, WhatAFailedSearchGaveBackIsFoundAgain) {
  ASSERT_TRUE(finish(refcounts_->allocate_table(1)));
  for (int succeeding = 0;; ++succeeding) {
    ASSERT_TRUE(finish(refcounts_->decrement({300, 1})));
    write_out();
    for (uint64_t other = 600; other < 8000; other += 256)  // so that no block needed is in memory
      ASSERT_TRUE(finish(refcounts_->get(other)));
    int reads = 0;
    store_.fault = [&](const FileOperation& operation) {
      return operation.kind == FileOperation::Kind::kRead && ++reads > succeeding ? EIO : 0;
    };
    const bool found = finish(refcounts_->allocate_table(2)).has_value();
    store_.fault = {};
    EXPECT_EQ(finish(refcounts_->allocate_table(1)).value(), 300u) << succeeding;
    if (!found) continue;
    EXPECT_GT(succeeding, 1);
    break;
  }
}

}  // namespace
}  // namespace wick::block::qcow2
