// The host fails at any moment: each operation in turn, once or for a while. The guest gets an
// error, the image stays sound, and everything works again after the fault.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "block/qcow2/announced_size.h"
#include "tests/block/guest_workload.h"
#include "tests/block/image_keeper.h"
#include "tests/block/qcow2/checker.h"
#include "tests/block/qcow2/images.h"

namespace wick::block {
namespace {

using fakes::FileOperation;
using fakes::finish;
using fakes::MemoryStore;
using Kind = FileOperation::Kind;

testing::AssertionResult is_sound(const MemoryStore& store, bool loose_flags = false) {
  Qcow2Checker checker(store.bytes, loose_flags);
  checker.run();
  if (checker.faults().empty()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << checker.faults();
}

// Only the process that had a failed sync refuses later ones.
void start_anew(MemoryStore& store) {
  store.sync_failed = false;
  if (store.beside) store.beside->sync_failed = false;
}

struct Fault {
  int code = EIO;
  size_t operations = 1;  // that fail, one after another
  uint64_t failed_write_bytes = 0;
};

class Qcow2Fault : public testing::TestWithParam<SmallShape> {
 protected:
  // The fault hits from the nth operation on: either syncs, or all other operations. Returns
  // false if there were fewer operations.
  bool run_with(const Fault& fault, size_t nth, bool syncs) {
    const SmallShape& shape = GetParam();
    SCOPED_TRACE(fmt::format("{} operations from the {}th fail: {}, having written {} bytes",
                             fault.operations, nth, std::strerror(fault.code),
                             fault.failed_write_bytes));
    MemoryStore store;
    ImageFolder::fill(store, files_);
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
    start_anew(store);
    ASSERT_TRUE(is_sound(store));
    const auto again = folder_.open(store, 64 << 10);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_TRUE(holds_what_it_may(**again, history, store.log.size()));
  }

  ImageFolder folder_;
  ImageFolder::Files files_ = folder_.create(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Shapes, Qcow2Fault, testing::ValuesIn(kSmallShapes), name_of);

TEST_P(Qcow2Fault, OfAnyOperationIsReportedAndLeavesTheImageSound) {
  for (const Fault& fault : {Fault{EIO, 1, 0}, Fault{ENOSPC, 8, 512}, Fault{EIO, 3, ~0ull}})
    for (size_t nth = 0; run_with(fault, nth, false); ++nth) {
    }
}

// The host has dropped data that it could not write, perhaps copied clusters. No metadata that
// refers to it may be written until the image is opened anew.
TEST_P(Qcow2Fault, OfASyncLeavesTheImageAsACrashWould) {
  for (size_t nth = 0; run_with({}, nth, true); ++nth) {
  }
}

TEST_P(Qcow2Fault, WhileOpeningIsReported) {
  for (size_t nth = 0;; ++nth) {
    MemoryStore store;
    ImageFolder::fill(store, files_);
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

// An image whose whole is changed. The change may close it and open it anew.
struct Image {
  MemoryStore& store;
  ImageFolder& folder;
  std::unique_ptr<Qcow2>& disk;

  Result<void> resize(uint64_t bytes) { return finish(qcow2::resize(*disk, bytes)); }
  Result<void> fill(uint64_t offset, uint64_t length, uint32_t seed) {
    const auto data = pattern(length, seed);
    const iovec buffer = to_iovec(data);
    TRY(finish(disk->write(offset, {&buffer, 1})));
    return finish(disk->flush());
  }
  Result<bool> has_snapshot() {
    const auto all = TRY(finish(qcow2::list_snapshots(disk->metadata())));
    return std::ranges::find(all, "before", &qcow2::Snapshot::name) != all.end();
  }
};

constexpr uint64_t kSizeBytes = 256 << 10;
constexpr uint64_t kSmallBytes = (60 << 10) + 512;  // the end lies within a cluster

Result<void> shrink(Image& image) { return image.resize(kSmallBytes); }
Result<void> grow(Image& image) { return image.resize(kSizeBytes); }
Result<void> commit(Image& image) {
  TRY(commit_image(image.store, *image.disk));
  const Mapping mapping = TRY(finish(image.disk->map(0, kSizeBytes)));
  EXPECT_EQ(mapping.kind, Mapping::Kind::kUnallocated);
  return {};
}
Result<void> rebase(Image& image) { return rebase_image(image.store, image.folder, image.disk); }
Result<void> snapshot(Image& image) {
  return finish(qcow2::create_snapshot(image.disk->metadata(), "new"));
}
Result<void> write_behind_snapshot(Image& image) { return image.fill(10'000, 90'000, 1); }
Result<void> shrink_behind_snapshot(Image& image) {
  TRY(write_behind_snapshot(image));
  return shrink(image);
}
Result<void> apply_it(Image& image) {
  return finish(qcow2::apply_snapshot(image.disk->metadata(), "before"));
}
Result<void> delete_it(Image& image) {
  if (!TRY(image.has_snapshot()))
    TRY(finish(qcow2::create_snapshot(image.disk->metadata(), "before")));
  return finish(qcow2::delete_snapshot(image.disk->metadata(), "before"));
}

struct WholeCase {
  const char* name;
  SmallShape shape;
  Result<void> (*prepare)(Image&);  // or nullptr
  Result<void> (*act)(Image&);      // may be repeated
};

constexpr const char* kFilled =
    "-c 'write -P 7 0 40k' -c 'write -z 50k 8k' -c 'write -P 8 100k 70k'";
constexpr SmallShape kAlone = {"", "cluster_size=4k", kSizeBytes, false, kFilled};
constexpr SmallShape kSmallClusters = {"", "cluster_size=512", kSizeBytes, false, kFilled};
constexpr SmallShape kOverBase = {"", "cluster_size=4k", kSizeBytes, true, kFilled};
constexpr SmallShape kOverBaseSmall = {"", "cluster_size=512", kSizeBytes, true, kFilled};
constexpr SmallShape kOverBase2 = {"", "cluster_size=4k,compat=0.10", kSizeBytes, true};
constexpr SmallShape kOverBaseExtended = {"", "cluster_size=16k,extended_l2=on", kSizeBytes, true,
                                          kFilled};
constexpr SmallShape kKept = {"", "cluster_size=4k", kSizeBytes, false, kFilled, true};
constexpr SmallShape kKeptSmall = {"", "cluster_size=512", kSizeBytes, false, kFilled, true};
constexpr SmallShape kKeptExtended = {
    "", "cluster_size=16k,extended_l2=on", kSizeBytes, true, kFilled, true};
constexpr SmallShape kBeside = {"", "cluster_size=4k", kSizeBytes, false, kFilled, false, 1, true};
constexpr SmallShape kBesideOverBase = {"",  "cluster_size=4k", kSizeBytes, true, kFilled, false, 1,
                                        true};

constexpr WholeCase kWholeCases[] = {
    {"Shrink", kAlone, nullptr, shrink},
    {"ShrinkSmallClusters", kSmallClusters, nullptr, shrink},
    {"ShrinkOverBase", kOverBase, nullptr, shrink},
    {"ShrinkDataFile", kBeside, nullptr, shrink},
    {"ShrinkDataFileOverBase", kBesideOverBase, nullptr, shrink},
    {"ShrinkKept", kKept, nullptr, shrink},
    {"Grow", kAlone, shrink, grow},
    {"GrowSmallClusters", kSmallClusters, shrink, grow},
    {"GrowOverBase", kOverBase, shrink, grow},
    {"GrowOverBaseSmallClusters", kOverBaseSmall, shrink, grow},
    {"GrowOverBaseVersion2", kOverBase2, shrink, grow},
    {"GrowOverBaseExtended", kOverBaseExtended, shrink, grow},
    {"GrowDataFile", kBeside, shrink, grow},
    {"GrowDataFileOverBase", kBesideOverBase, shrink, grow},
    {"Commit", kOverBase, nullptr, commit},
    {"CommitSmallClusters", kOverBaseSmall, nullptr, commit},
    {"CommitExtended", kOverBaseExtended, nullptr, commit},
    {"RebaseToNone", kOverBase, nullptr, rebase},
    {"RebaseToNoneSmallClusters", kOverBaseSmall, nullptr, rebase},
    {"RebaseToBase", kOverBase, rebase, rebase},
    {"RebaseToBaseExtended", kOverBaseExtended, rebase, rebase},
    {"Snapshot", kAlone, nullptr, snapshot},
    {"SnapshotOfAnother", kKept, write_behind_snapshot, snapshot},
    {"SnapshotSmallClusters", kKeptSmall, write_behind_snapshot, snapshot},
    {"SnapshotExtended", kKeptExtended, write_behind_snapshot, snapshot},
    {"Apply", kKept, write_behind_snapshot, apply_it},
    {"ApplySmallClusters", kKeptSmall, shrink_behind_snapshot, apply_it},
    {"ApplyExtended", kKeptExtended, write_behind_snapshot, apply_it},
    {"Delete", kKept, write_behind_snapshot, delete_it},
    {"DeleteSmallClusters", kKeptSmall, write_behind_snapshot, delete_it},
    {"DeleteExtended", kKeptExtended, write_behind_snapshot, delete_it},
};

void PrintTo(const WholeCase& of, std::ostream* out) { *out << of.name; }

class Qcow2FaultOfTheWhole : public testing::TestWithParam<WholeCase> {
 protected:
  using Bytes = std::vector<std::byte>;

  void SetUp() override {
    ImageFolder::Files files = folder_.create(GetParam().shape);
    MemoryStore store;
    ImageFolder::fill(store, files);
    auto disk = folder_.open(store, 64 << 10).value();
    Image image{store, folder_, disk};
    if (GetParam().prepare != nullptr) {
      const auto prepared = GetParam().prepare(image);
      ASSERT_TRUE(prepared) << prepared.error().message();
    }
    files_ = {store.bytes, {}};
    if (store.beside) files_.beside = store.beside->bytes;
    before_ = content(*disk);
    if (image.has_snapshot().value()) kept_ = content_of_snapshot(store);
    const auto done = GetParam().act(image);
    ASSERT_TRUE(done) << done.error().message();
    after_ = content(*disk);
  }

  static Bytes content(Backend& disk) {
    auto bytes = read_now(disk, 0, disk.size_bytes());
    EXPECT_TRUE(bytes) << bytes.error().message();
    return bytes.value_or(Bytes());
  }
  Bytes content_of_snapshot(const MemoryStore& store) {
    MemoryStore copy;
    ImageFolder::Files files{store.bytes, {}};
    if (store.beside) files.beside = store.beside->bytes;
    ImageFolder::fill(copy, files);
    const auto disk = folder_.open(copy, 64 << 10).value();
    EXPECT_TRUE(finish(qcow2::apply_snapshot(disk->metadata(), "before")));
    return content(*disk);
  }

  // A failed change may have happened or not, or a shrink in part. The sectors of both sizes
  // must be either all as before or all as after it.
  void expect_before_or_after(const Bytes& now) const {
    ASSERT_THAT(now.size(), testing::AnyOf(before_.size(), after_.size()));
    const auto common = static_cast<std::ptrdiff_t>(std::min(before_.size(), after_.size()));
    EXPECT_TRUE(std::equal(now.begin(), now.begin() + common, before_.begin()) ||
                std::equal(now.begin(), now.begin() + common, after_.begin()));
    if (now.size() == after_.size()) {
      EXPECT_TRUE(std::equal(now.begin() + common, now.end(), after_.begin() + common));
    }
  }

  // Returns false if there were fewer operations.
  bool run_with(const Fault& fault, size_t nth) {
    SCOPED_TRACE(fmt::format("{} operations from the {}th fail: {}, having written {} bytes",
                             fault.operations, nth, std::strerror(fault.code),
                             fault.failed_write_bytes));
    MemoryStore store;
    ImageFolder::fill(store, files_);
    auto disk = folder_.open(store, nth % 2 == 0 ? 1 : 64 << 10).value();
    Image image{store, folder_, disk};
    size_t operations = 0;
    bool must_be_told = false;
    store.failed_write_bytes = fault.failed_write_bytes;
    store.fault = [&](const FileOperation& operation) {
      const bool hit = operations >= nth && operations < nth + fault.operations;
      ++operations;
      // A failed hole, or a failed read before it, only wastes space. If a refcount block
      // cannot be reserved, a cluster stays counted until a later checkpoint.
      const bool changes = operation.kind != Kind::kDiscard && operation.kind != Kind::kRead &&
                           operation.kind != Kind::kReserve;
      must_be_told = must_be_told || (hit && changes);
      return hit ? fault.code : 0;
    };
    const auto first = GetParam().act(image);
    store.fault = {};
    if (operations <= nth) return false;
    EXPECT_FALSE(first && must_be_told);

    disk.reset();
    start_anew(store);
    EXPECT_TRUE(is_sound(store, true));
    disk = folder_.open(store, 64 << 10).value();
    if (first)
      EXPECT_EQ(content(*disk), after_);
    else
      expect_before_or_after(content(*disk));
    if (!kept_.empty() && image.has_snapshot().value()) {
      EXPECT_EQ(content_of_snapshot(store), kept_);
    }

    const auto again = GetParam().act(image);
    EXPECT_TRUE(again) << again.error().message();
    if (!again) return false;
    EXPECT_EQ(content(*disk), after_);
    EXPECT_TRUE(finish(disk->flush()));
    EXPECT_TRUE(is_sound(store));
    return !HasFailure();
  }

  ImageFolder folder_;
  ImageFolder::Files files_;
  Bytes before_, after_, kept_;
};

INSTANTIATE_TEST_SUITE_P(Cases, Qcow2FaultOfTheWhole, testing::ValuesIn(kWholeCases),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(Qcow2FaultOfTheWhole, IsReportedAndNothingIsLost) {
  for (const Fault& fault : {Fault{EIO, 1, 0}, Fault{ENOSPC, 8, 512}, Fault{EIO, 3, ~0ull}})
    for (size_t nth = 0; run_with(fault, nth); ++nth) {
    }
}

constexpr SmallShape kPlain = {"Plain", "cluster_size=4k", 256 << 10};
constexpr SmallShape kShared = {"Shared", "cluster_size=4k",       256 << 10,
                                false,    "-c 'write -P 7 0 64k'", true};

class Qcow2FaultNamed : public testing::Test {
 protected:
  void create(const SmallShape& shape) {
    ImageFolder::fill(store_, folder_.create(shape));
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
TEST_F(Qcow2FaultNamed, ASharedTableIsReleasedOnlyAfterItsCopyIsWritten) {
  for (size_t nth = 0;; ++nth) {
    create(kShared);
    size_t operations = 0;
    store_.fault = [&](const FileOperation&) { return operations++ == nth ? ENOSPC : 0; };
    const auto data = pattern(4096, 1);
    const auto first = write(0, data);
    store_.fault = {};
    ASSERT_EQ(first.has_value(), operations <= nth) << "operation " << nth;
    // Each write allocates clusters, but must not take the table that the snapshot still uses.
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
TEST_F(Qcow2FaultNamed, AClusterWhoseDataCouldNotBeWrittenIsFreedOnce) {
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
  // A partial write: the rest of the cluster is zeroes, not the data of the failed write.
  ASSERT_TRUE(write(100 << 10, std::vector<std::byte>(512, std::byte{9})));
  ASSERT_TRUE(finish(disk_->flush()));
  EXPECT_EQ(leaks(), 0u);
  EXPECT_EQ(read_now(*disk_, 8192, 8192).value(), first);
  EXPECT_EQ(read_now(*disk_, 65536, 8192).value(), second);
  EXPECT_EQ(read_now(*disk_, (100 << 10) + 512, 3584).value(), std::vector<std::byte>(3584));
}

// PITFALLS 17
TEST_F(Qcow2FaultNamed, AFlushSyncsAndReportsErrors) {
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

// In a damaged image only the damaged cluster cannot be freed.
TEST_F(Qcow2FaultNamed, AClusterWithARefcountOfZeroDoesNotKeepOthersFromBeingFreed) {
  create(kPlain);
  ASSERT_TRUE(write(0, pattern(256 << 10, 1)));
  ASSERT_TRUE(finish(disk_->flush()));
  const uint64_t host = finish(disk_->map(8192, 4096)).value().host_offset;
  disk_.reset();
  const auto field = [&](uint64_t offset) {
    std::array<std::byte, 8> bytes{};
    store_.bytes.read(offset, bytes);
    return load_be<uint64_t>(std::span<const std::byte>(bytes));
  };
  store_.bytes.write(field(field(48)) + host / 4096 * 2, std::vector<std::byte>(2));
  disk_ = folder_.open(store_, 64 << 10).value();
  ASSERT_TRUE(finish(disk_->discard(8192, 8192)));
  ASSERT_TRUE(finish(disk_->discard(128 << 10, 4096)));
  const auto flushed = finish(disk_->flush());
  ASSERT_FALSE(flushed);
  EXPECT_THAT(flushed.error().message(), testing::HasSubstr("its reference count is 0"));
  ASSERT_TRUE(finish(disk_->flush()));
  EXPECT_EQ(leaks(), 0u);
}

// Writing to the header that a table has moved fails, but the fields are there. The header
// names the new table then, although the disk goes on with the old one.
struct MovedTable {
  const char* name;
  uint64_t field;  // of the header
  SmallShape shape;
  uint64_t new_size_bytes;  // for which the table must move
};
constexpr MovedTable kMovedTables[] = {
    {"L1", 24, {"", "cluster_size=4k", 256 << 10}, 64 << 20},
    {"Refcounts", 48, {"", "cluster_size=512,refcount_bits=64", 1 << 20}, 16ull << 30},
};

class Qcow2FaultOfAMove : public Qcow2FaultNamed, public testing::WithParamInterface<MovedTable> {
 protected:
  // All writes of the field fail. What they do to the file is only done by the first.
  void fail_in_header() {
    create(GetParam().shape);
    fakes::MemoryFile file(store_);
    ASSERT_TRUE(finish(qcow2::announce_size(file, GetParam().new_size_bytes)));
    store_.fault = [this](const FileOperation& operation) {
      if (operation.kind != Kind::kWrite || operation.offset_bytes != GetParam().field) return 0;
      store_.failed_write_bytes = failed_++ == 0 ? ~0ull : 0;
      return EIO;
    };
    ASSERT_FALSE(finish(disk_->update_size()));
    EXPECT_EQ(failed_, 2);  // it was tried to restore the field
    EXPECT_EQ(disk_->size_bytes(), GetParam().shape.size_bytes);
    const bool stored = write(0, data_) && finish(disk_->flush());
    EXPECT_FALSE(stored);
  }

  const std::vector<std::byte> data_ = pattern(128 << 10, 1);
  int failed_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Tables, Qcow2FaultOfAMove, testing::ValuesIn(kMovedTables),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(Qcow2FaultOfAMove, IsNotBuiltOn) {
  fail_in_header();
  disk_.reset();
  store_.fault = {};
  EXPECT_TRUE(is_sound(store_));
}

TEST_P(Qcow2FaultOfAMove, IsUndoneWhenTheHeaderCanBeWrittenAgain) {
  fail_in_header();
  store_.fault = {};
  ASSERT_TRUE(write(0, data_));
  ASSERT_TRUE(finish(disk_->flush()));
  EXPECT_EQ(leaks(), 0u);
  ASSERT_TRUE(finish(disk_->update_size()));
  EXPECT_EQ(disk_->size_bytes(), GetParam().new_size_bytes);
  ASSERT_TRUE(finish(disk_->flush()));
  EXPECT_EQ(leaks(), 0u);
  EXPECT_EQ(read_now(*folder_.open(store_, 64 << 10).value(), 0, data_.size()).value(), data_);
}

// A failed hole only wastes space: discarded data reads as zeroes anyway.
TEST_F(Qcow2FaultNamed, AHoleThatCannotBeMadeCostsSpaceOnly) {
  create(kPlain);
  ASSERT_TRUE(write(0, pattern(65536, 1)));
  ASSERT_TRUE(finish(disk_->flush()));
  fail_next(Kind::kDiscard, EIO);
  ASSERT_TRUE(finish(disk_->discard(0, 65536)));
  ASSERT_TRUE(finish(disk_->flush()));
  EXPECT_EQ(read_now(*disk_, 0, 65536).value(), std::vector<std::byte>(65536));
  EXPECT_EQ(leaks(), 0u);
  // The old data is still in the file, so a partial write must zero the rest of the cluster.
  ASSERT_TRUE(write(0, std::vector<std::byte>(512, std::byte{9})));
  EXPECT_EQ(read_now(*disk_, 512, 3584).value(), std::vector<std::byte>(3584));
}

}  // namespace
}  // namespace wick::block
