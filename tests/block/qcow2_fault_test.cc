// The host fails at any moment: each operation in turn, once or for a while. The
// guest is told, the image stays sound, and all goes on when the fault is over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/block/guest_workload.h"
#include "tests/block/qcow2_checker.h"
#include "tests/block/qcow2_images.h"

namespace wick::block {
namespace {

using fakes::FileOperation;
using fakes::finish;
using fakes::MemoryStore;
using Kind = FileOperation::Kind;

testing::AssertionResult is_sound(const MemoryStore& store) {
  Qcow2Checker checker(store.bytes);
  checker.run();
  if (checker.faults().empty()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << checker.faults();
}

struct Fault {
  int code = EIO;
  size_t operations = 1;  // that fail, one after another
  uint64_t failed_write_bytes = 0;
};

class Qcow2Fault : public testing::TestWithParam<SmallShape> {
 protected:
  // From the nth operation on; syncs, or all others. False when there were fewer.
  bool run_with(const Fault& fault, size_t nth, bool syncs) {
    const SmallShape& shape = GetParam();
    SCOPED_TRACE(fmt::format("{} operations from the {}th fail: {}, having written {} bytes",
                             fault.operations, nth, std::strerror(fault.code),
                             fault.failed_write_bytes));
    MemoryStore store;
    store.bytes = store.stable = image_;
    auto disk = folder_.open(store, nth % 2 == 0 ? 1 : 64 << 10);
    EXPECT_TRUE(disk) << disk.error().message();
    SectorHistory history(read_now(**disk, 0, shape.size_bytes).value());
    GuestWorkload guest(**disk, store, history, 5);
    size_t operations = 0;
    store.failed_write_bytes = fault.failed_write_bytes;
    store.fault = [&](const FileOperation& operation) {
      if ((operation.kind == Kind::kSync) != syncs) return 0;
      const bool hit = operations >= nth && operations < nth + fault.operations;
      ++operations;
      if (hit && syncs) guest.stop_checking_reads();
      return hit ? fault.code : 0;
    };
    store.logs = true;
    store.holds = true;
    guest.run(30 * shape.weight, 1 + nth % 5);
    if (operations <= nth) return false;
    store.fault = {};
    if (syncs)
      expect_no_more_stable(store, history, guest, **disk);
    else
      expect_all_well(store, history, guest, **disk);
    return !HasFailure();
  }

  void expect_all_well(MemoryStore& store, const SectorHistory& history, GuestWorkload& guest,
                       Backend& disk) {
    store.holds = false;
    const auto flushed = finish(disk.flush());
    ASSERT_TRUE(flushed) << flushed.error().message();
    ASSERT_TRUE(is_sound(store));
    const int errors = guest.errors();
    store.holds = true;
    guest.run(15, 3);
    EXPECT_EQ(guest.errors(), errors);
    store.holds = false;
    ASSERT_TRUE(finish(disk.flush()));
    ASSERT_TRUE(is_sound(store));
    EXPECT_TRUE(holds_what_it_may(disk, history, SectorHistory::kNever));
    const auto again = folder_.open(store, 64 << 10);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_TRUE(holds_what_it_may(**again, history, SectorHistory::kNever));
  }

  void expect_no_more_stable(MemoryStore& store, const SectorHistory& history, GuestWorkload& guest,
                             Backend& disk) {
    const int errors = guest.errors();
    EXPECT_GT(errors, 0);
    guest.run(15, 3);
    store.holds = false;
    EXPECT_FALSE(finish(disk.flush()));
    store.sync_failed = false;  // as for a process that starts anew
    ASSERT_TRUE(is_sound(store));
    const auto again = folder_.open(store, 64 << 10);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_TRUE(holds_what_it_may(**again, history, store.log.size()));
  }

  ImageFolder folder_;
  fakes::SparseBytes image_ = folder_.create(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Shapes, Qcow2Fault, testing::ValuesIn(kSmallShapes), name_of);

TEST_P(Qcow2Fault, OfAnyOperationIsToldAndLeavesTheImageSound) {
  for (const Fault& fault : {Fault{EIO, 1, 0}, Fault{ENOSPC, 8, 512}, Fault{EIO, 3, ~0ull}})
    for (size_t nth = 0; run_with(fault, nth, false); ++nth) {
    }
}

// The host has dropped what it could not write, clusters copied for others among
// it; so nothing more may be published until the image is opened anew.
TEST_P(Qcow2Fault, OfASyncLeavesTheImageAsACrashWould) {
  for (size_t nth = 0; run_with({}, nth, true); ++nth) {
  }
}

TEST_P(Qcow2Fault, WhileOpeningIsTold) {
  for (size_t nth = 0;; ++nth) {
    MemoryStore store;
    store.bytes = image_;
    size_t operations = 0;
    store.fault = [&](const FileOperation&) { return operations++ == nth ? EIO : 0; };
    const auto disk = folder_.open(store, 1);
    if (operations <= nth) {
      EXPECT_TRUE(disk) << disk.error().message();
      break;
    }
    ASSERT_FALSE(disk);
    EXPECT_EQ(disk.error().code, EIO);
    EXPECT_THAT(disk.error().message(), testing::HasSubstr(store.path));
  }
}

constexpr SmallShape kPlain = {"Plain", "cluster_size=4k", 256 << 10};
constexpr SmallShape kShared = {"Shared", "cluster_size=4k",       256 << 10,
                                false,    "-c 'write -P 7 0 64k'", true};

class Qcow2FaultNamed : public testing::Test {
 protected:
  void create(const SmallShape& shape) {
    store_.bytes = store_.stable = folder_.create(shape);
    disk_ = folder_.open(store_, 64 << 10).value();
  }
  Result<void> write(uint64_t offset, const std::vector<std::byte>& bytes) {
    const iovec buffer = to_iovec(bytes);
    return finish(disk_->write(offset, {&buffer, 1}));
  }
  void fail_next(Kind kind, int code) {
    store_.fault = [this, kind, code](const FileOperation& operation) {
      if (operation.kind != kind) return 0;
      store_.fault = {};
      return code;
    };
  }
  uint64_t leaks() const {
    Qcow2Checker checker(store_.bytes);
    checker.run();
    EXPECT_EQ(checker.faults(), "");
    return checker.leaks();
  }

  ImageFolder folder_;
  MemoryStore store_;
  std::unique_ptr<Qcow2> disk_;
};

// PITFALLS 3
TEST_F(Qcow2FaultNamed, ASharedTableIsLetGoOfOnlyWhenItsCopyIsThere) {
  for (size_t nth = 0;; ++nth) {
    create(kShared);
    size_t operations = 0;
    store_.fault = [&](const FileOperation&) { return operations++ == nth ? ENOSPC : 0; };
    const auto data = pattern(4096, 1);
    const auto first = write(0, data);
    store_.fault = {};
    ASSERT_EQ(first.has_value(), operations <= nth) << "operation " << nth;
    // Each takes clusters; none may take the table that the snapshot still has.
    for (uint64_t i = 0; i < 8; ++i) ASSERT_TRUE(write(i * 8192, data));
    ASSERT_TRUE(finish(disk_->flush()));
    EXPECT_EQ(leaks(), 0u) << "operation " << nth;
    for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(read_now(*disk_, i * 8192, 4096).value(), data);
    folder_.store("disk.img", store_.bytes);
    EXPECT_TRUE(shell("cd " + folder_.path() + " && qemu-img snapshot -a before disk.img && " +
                      "qemu-io -c 'read -P 7 0 64k' disk.img | tee /dev/stderr | "
                      "(! grep -q 'verification failed')"));
    if (operations <= nth) break;
  }
}

// PITFALLS 5
TEST_F(Qcow2FaultNamed, AClusterWhoseDataCouldNotBeWrittenGoesBackOnce) {
  create(kPlain);
  const auto lost = pattern(8192, 1), first = pattern(8192, 2), second = pattern(8192, 3);
  store_.failed_write_bytes = 4096;
  fail_next(Kind::kWrite, ENOSPC);
  const auto written = write(0, lost);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ENOSPC);
  EXPECT_EQ(read_now(*disk_, 0, 8192).value(), std::vector<std::byte>(8192));
  ASSERT_TRUE(write(8192, first));
  ASSERT_TRUE(write(65536, second));
  // In part: the rest of it is zeroes, and not what had failed.
  ASSERT_TRUE(write(100 << 10, std::vector<std::byte>(512, std::byte{9})));
  ASSERT_TRUE(finish(disk_->flush()));
  EXPECT_EQ(leaks(), 0u);
  EXPECT_EQ(read_now(*disk_, 8192, 8192).value(), first);
  EXPECT_EQ(read_now(*disk_, 65536, 8192).value(), second);
  EXPECT_EQ(read_now(*disk_, (100 << 10) + 512, 3584).value(), std::vector<std::byte>(3584));
}

// PITFALLS 17
TEST_F(Qcow2FaultNamed, AFlushSyncsAndTellsWhatDidNotWork) {
  create(kPlain);
  ASSERT_TRUE(write(0, pattern(4096, 1)));
  ASSERT_TRUE(finish(disk_->flush()));
  store_.logs = true;
  ASSERT_TRUE(write(0, pattern(4096, 2)));  // in place: there are no tables to write
  ASSERT_TRUE(finish(disk_->flush()));
  ASSERT_EQ(store_.log.size(), 2u);
  EXPECT_EQ(store_.log[0].kind, Kind::kWrite);
  EXPECT_EQ(store_.log[1].kind, Kind::kSync);
  fail_next(Kind::kSync, EIO);
  const auto flushed = finish(disk_->flush());
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().code, EIO);
}

// PITFALLS 17
TEST_F(Qcow2FaultNamed, ADiscardWhoseTableCannotBeReadIsAnError) {
  create(kPlain);
  const auto data = pattern(65536, 1);
  ASSERT_TRUE(write(0, data));
  ASSERT_TRUE(finish(disk_->flush()));
  disk_ = folder_.open(store_, 1).value();
  fail_next(Kind::kRead, EIO);
  const auto discarded = finish(disk_->discard(0, 65536));
  ASSERT_FALSE(discarded);
  EXPECT_EQ(discarded.error().code, EIO);
  EXPECT_EQ(read_now(*disk_, 0, 65536).value(), data);
  ASSERT_TRUE(finish(disk_->discard(0, 65536)));
  EXPECT_EQ(read_now(*disk_, 0, 65536).value(), std::vector<std::byte>(65536));
}

TEST_F(Qcow2FaultNamed, WhatAFailedFlushWasToFreeIsFreedByTheNext) {
  create(kPlain);
  ASSERT_TRUE(write(0, pattern(65536, 1)));
  ASSERT_TRUE(finish(disk_->flush()));
  ASSERT_TRUE(finish(disk_->discard(0, 65536)));
  fail_next(Kind::kWrite, ENOSPC);
  ASSERT_FALSE(finish(disk_->flush()));
  ASSERT_TRUE(finish(disk_->flush()));
  EXPECT_EQ(leaks(), 0u);
}

// A hole is only space: what was discarded reads as zeroes all the same.
TEST_F(Qcow2FaultNamed, AHoleThatCannotBeMadeCostsSpaceOnly) {
  create(kPlain);
  ASSERT_TRUE(write(0, pattern(65536, 1)));
  ASSERT_TRUE(finish(disk_->flush()));
  fail_next(Kind::kPunch, EIO);
  ASSERT_TRUE(finish(disk_->discard(0, 65536)));
  ASSERT_TRUE(finish(disk_->flush()));
  EXPECT_EQ(read_now(*disk_, 0, 65536).value(), std::vector<std::byte>(65536));
  EXPECT_EQ(leaks(), 0u);
  // Where the old data still is, the rest of a cluster must be written.
  ASSERT_TRUE(write(0, std::vector<std::byte>(512, std::byte{9})));
  EXPECT_EQ(read_now(*disk_, 512, 3584).value(), std::vector<std::byte>(3584));
}

}  // namespace
}  // namespace wick::block
