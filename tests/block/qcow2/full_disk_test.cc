// The host's disk fills up. Only requests that need more space fail, and no acknowledged data
// is lost (PITFALLS 38). With space again everything works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <fstream>

#include "block/qcow2/empty.h"
#include "block/qcow2/resize.h"
#include "block/qcow2/snapshot_commands.h"
#include "tests/block/disk_fixture.h"
#include "tests/block/guest_workload.h"
#include "tests/block/qcow2/checker.h"
#include "tests/block/qcow2/images.h"

namespace wick::block {
namespace {

using fakes::finish;
using fakes::MemoryStore;

void expect_sound_without_leaks(const MemoryStore& store) {
  Qcow2Checker checker(store.bytes);
  checker.run();
  EXPECT_EQ(checker.faults(), "");
  EXPECT_EQ(checker.leaks(), 0u);
}

// Makes holes like `cp --sparse=always`: also in tables.
void make_sparse(fakes::SparseBytes& bytes) {
  std::vector<std::byte> page(4096);
  for (uint64_t at = 0; at < bytes.size_bytes(); at += page.size()) {
    bytes.read(at, page);
    if (std::ranges::all_of(page, [](std::byte byte) { return byte == std::byte{0}; }))
      bytes.clear(at, page.size());
  }
}

class Qcow2FullDisk : public testing::TestWithParam<SmallShape> {
 protected:
  // Runs a guest with `free_bytes` of free space. Returns false if no request ran out of space.
  bool run_with(uint64_t free_bytes, bool sparse) {
    SCOPED_TRACE(fmt::format("{} bytes are free, {}", free_bytes, sparse ? "sparse" : "dense"));
    MemoryStore store;
    ImageFolder::fill(store, files_);
    if (sparse) make_sparse(store.bytes);
    auto disk = folder_.open(store, free_bytes % 8192 == 0 ? 1 : 64 << 10).value();
    step_bytes_ = disk->header().cluster_bytes() / 2;
    SectorHistory history(read_now(*disk, 0, GetParam().size_bytes).value());
    GuestWorkload guest(*disk, store, history, 5 + free_bytes);
    store.disk_bytes = store.bytes.allocated_bytes() + free_bytes;
    store.failed_write_bytes = 512;
    store.holds = true;
    guest.run(40 * GetParam().weight, 1 + free_bytes / 4096 % 5);
    const int errors = guest.errors();
    EXPECT_EQ(guest.failed_flushes(), 0);
    store.holds = false;
    const auto flushed = finish(disk->flush());
    EXPECT_TRUE(flushed) << flushed.error().message();
    // The state that a crash would leave now.
    {
      MemoryStore copy;
      copy.bytes = store.bytes;
      if (store.beside) copy.add_beside().bytes = store.beside->bytes;
      const auto again = folder_.open(copy, 64 << 10).value();
      EXPECT_TRUE(holds_what_it_may(*again, history, SectorHistory::kNever));
    }
    store.disk_bytes = ~0ull;
    EXPECT_TRUE(finish(disk->flush()));
    expect_sound_without_leaks(store);
    store.holds = true;
    guest.run(15, 3);
    store.holds = false;
    EXPECT_EQ(guest.errors(), errors);
    EXPECT_TRUE(finish(disk->flush()));
    expect_sound_without_leaks(store);
    EXPECT_TRUE(holds_what_it_may(*disk, history, SectorHistory::kNever));
    return errors > 0 && !HasFailure();
  }

  ImageFolder folder_;
  ImageFolder::Files files_ = folder_.create(GetParam());
  uint64_t step_bytes_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Shapes, Qcow2FullDisk, testing::ValuesIn(kSmallShapes), name_of);

TEST_P(Qcow2FullDisk, FailsOnlyWhatNeedsSpace) {
  for (const bool sparse : {false, true}) {
    uint64_t free_bytes = 0;
    while (run_with(free_bytes, sparse)) free_bytes += std::max<uint64_t>(4096, step_bytes_);
    EXPECT_FALSE(HasFailure());
    // An image with a data file needs no space for data, and a preallocated image needs space
    // only if its file is sparse.
    const bool has_tables = std::string_view(GetParam().options).starts_with("preallocation");
    EXPECT_TRUE(free_bytes > 0 || GetParam().data_file || (has_tables && !sparse))
        << "nothing ever needed space";
  }
}

// A change of the whole image.
struct WholeChange {
  const char* name;
  SmallShape shape;
  Result<void> (*act)(Qcow2&);
};

constexpr const char* kFilled = "-c 'write -P 7 0 40k' -c 'write -P 8 100k 70k'";
const WholeChange kWholeChanges[] = {
    {"Snapshot",
     {"", "cluster_size=4k", 256 << 10, false, kFilled},
     [](Qcow2& disk) { return finish(qcow2::create_snapshot(disk.metadata(), "new")); }},
    {"SnapshotSmallClusters",
     {"", "cluster_size=512", 256 << 10, false, kFilled, true},
     [](Qcow2& disk) { return finish(qcow2::create_snapshot(disk.metadata(), "new")); }},
    {"Apply",
     {"", "cluster_size=512", 256 << 10, false, kFilled, true},
     [](Qcow2& disk) { return finish(qcow2::apply_snapshot(disk.metadata(), "before")); }},
    {"Delete",
     {"", "cluster_size=4k", 256 << 10, false, kFilled, true},
     [](Qcow2& disk) { return finish(qcow2::delete_snapshot(disk.metadata(), "before")); }},
    {"Grow",
     {"", "cluster_size=512", 256 << 10, false, kFilled},
     [](Qcow2& disk) { return finish(qcow2::resize(disk, 64 << 20)); }},
    {"GrowOverBase",
     {"", "cluster_size=4k", 256 << 10, true, kFilled},
     [](Qcow2& disk) { return finish(qcow2::resize(disk, 64 << 20)); }},
    {"Shrink",
     {"", "cluster_size=4k", 256 << 10, true, kFilled},
     [](Qcow2& disk) { return finish(qcow2::resize(disk, (60 << 10) + 512)); }},
    {"MakeEmpty",
     {"", "cluster_size=4k", 256 << 10, true, kFilled},
     [](Qcow2& disk) { return finish(qcow2::make_empty(disk.metadata())); }},
};

class Qcow2FullDiskOfTheWhole : public testing::TestWithParam<WholeChange> {};

INSTANTIATE_TEST_SUITE_P(Cases, Qcow2FullDiskOfTheWhole, testing::ValuesIn(kWholeChanges),
                         [](const auto& param) { return std::string(param.param.name); });

// Checks the file as it is after an error, without another flush, like that of `wick image`.
TEST_P(Qcow2FullDiskOfTheWhole, ChangesAllOrLosesAndLeaksNothing) {
  ImageFolder folder;
  const ImageFolder::Files files = folder.create(GetParam().shape);
  for (const bool sparse : {false, true})
    for (uint64_t free_bytes = 0;; free_bytes += 4096) {
      SCOPED_TRACE(fmt::format("{} bytes are free, {}", free_bytes, sparse ? "sparse" : "dense"));
      MemoryStore store;
      ImageFolder::fill(store, files);
      if (sparse) make_sparse(store.bytes);
      auto disk = folder.open(store, 64 << 10).value();
      const auto before = read_now(*disk, 0, disk->size_bytes()).value();
      store.disk_bytes = store.bytes.allocated_bytes() + free_bytes;
      const auto done = GetParam().act(*disk);
      if (!done) {
        EXPECT_EQ(done.error().code, ENOSPC) << done.error().message();
      }
      disk.reset();
      expect_sound_without_leaks(store);
      disk = folder.open(store, 64 << 10).value();
      if (!done) {
        EXPECT_EQ(read_now(*disk, 0, disk->size_bytes()).value(), before);
      }
      store.disk_bytes = ~0ull;
      if (!done) {
        const auto again = GetParam().act(*disk);
        EXPECT_TRUE(again) << again.error().message();
        EXPECT_TRUE(finish(disk->flush()));
        expect_sound_without_leaks(store);
      }
      if (done || HasFailure()) break;
    }
}

// The host cannot write one table. All others reach the file.
class Qcow2UnwritableTable : public testing::Test {
 protected:
  static constexpr uint64_t kTableSpan = 512 * 4096;  // bytes that one L2 table maps

  void SetUp() override {
    ImageFolder::fill(store_, folder_.create({"", "cluster_size=4k", 16 << 20}));
    disk_ = folder_.open(store_, 64 << 10).value();
  }
  Result<void> write(uint64_t offset, uint32_t seed) {
    const auto data = pattern(4096, seed);
    const iovec buffer = to_iovec(data);
    return finish(disk_->write(offset, {&buffer, 1}));
  }
  void fail_writes_to(uint64_t from, uint64_t length) {
    store_.fault = [=](const fakes::FileOperation& operation) {
      return operation.kind == fakes::FileOperation::Kind::kWrite &&
                     operation.offset_bytes < from + length &&
                     from < operation.offset_bytes + operation.length_bytes
                 ? EIO
                 : 0;
    };
  }
  uint64_t be64_at(uint64_t offset) const {
    std::array<std::byte, 8> bytes{};
    store_.bytes.read(offset, bytes);
    return load_be<uint64_t>(bytes);
  }
  void expect_in_file(uint64_t offset, uint32_t seed) {
    MemoryStore copy;
    copy.bytes = store_.bytes;
    const auto again = folder_.open(copy, 64 << 10).value();
    EXPECT_EQ(read_now(*again, offset, 4096).value(), pattern(4096, seed));
  }
  void expect_no_faults() const {
    Qcow2Checker checker(store_.bytes);
    checker.run();
    EXPECT_EQ(checker.faults(), "");
  }

  ImageFolder folder_;
  MemoryStore store_;
  std::unique_ptr<Qcow2> disk_;
};

TEST_F(Qcow2UnwritableTable, OfL2DoesNotKeepOthersFromTheFile) {
  ASSERT_TRUE(write(0, 1));
  ASSERT_TRUE(finish(disk_->flush()));
  const uint64_t first_table = be64_at(be64_at(40)) & qcow2::kOffsetMask;
  ASSERT_TRUE(write(4096, 2));            // in that table
  ASSERT_TRUE(write(kTableSpan, 3));      // in a new one
  ASSERT_TRUE(write(2 * kTableSpan, 4));  // in one more
  fail_writes_to(first_table, 4096);
  EXPECT_FALSE(finish(disk_->flush()));
  expect_no_faults();
  expect_in_file(kTableSpan, 3);
  expect_in_file(2 * kTableSpan, 4);
  // Requests that need no successful checkpoint go on.
  EXPECT_TRUE(write(3 * kTableSpan, 5));
  EXPECT_FALSE(finish(disk_->flush()));
  expect_in_file(3 * kTableSpan, 5);
  store_.fault = {};
  EXPECT_TRUE(finish(disk_->flush()));
  expect_in_file(4096, 2);
  expect_sound_without_leaks(store_);
}

TEST_F(Qcow2UnwritableTable, OfRefcountsDoesNotKeepOthersFromTheFile) {
  ASSERT_TRUE(write(0, 1));
  ASSERT_TRUE(finish(disk_->flush()));
  const uint64_t first_block = be64_at(be64_at(48));
  // Writes until a second refcount block is in use.
  uint64_t written = 4096;
  for (; store_.bytes.size_bytes() < (2048 + 64) * 4096; written += 4096)
    ASSERT_TRUE(write(written, 7));
  ASSERT_TRUE(finish(disk_->flush()));
  ASSERT_TRUE(write(written, 8));
  ASSERT_TRUE(finish(disk_->discard(8192, 4096)));
  ASSERT_TRUE(finish(disk_->flush()));    // which frees a cluster of the first block
  ASSERT_TRUE(write(written + 4096, 9));  // takes it
  ASSERT_TRUE(write(written + 8192, 10));
  fail_writes_to(first_block, 4096);
  EXPECT_FALSE(finish(disk_->flush()));
  expect_no_faults();
  store_.fault = {};
  EXPECT_TRUE(finish(disk_->flush()));
  expect_in_file(written + 4096, 9);
  expect_in_file(written + 8192, 10);
  expect_sound_without_leaks(store_);
}

// On a real file system: a tmpfs of some hundred KiB in this process's own mount namespace.
class Qcow2FullFileSystem : public DiskFixture {
 protected:
  // Before the tests start threads, which would stay in the old namespace.
  static void SetUpTestSuite() {
    can_mount_ = ::unshare(CLONE_NEWNS) == 0 &&
                 ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  }
  void SetUp() override {
    if (!can_mount_) GTEST_SKIP() << "cannot mount a tmpfs here";
    folder_ = directory_ / "small";
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { ::umount2(folder_.c_str(), MNT_DETACH); }

  bool mount(uint64_t pages, unsigned long flags = 0) const {
    return ::mount("none", folder_.c_str(), "tmpfs", flags,
                   fmt::format("size={}", pages * 4096).c_str()) == 0;
  }
  // Writes from where the last call stopped; the first chunk that fails is not counted.
  void write_until_full() {
    for (;; ++chunks_) {
      const auto done = write(chunks_ * kChunkBytes, pattern(kChunkBytes, chunks_));
      if (done) continue;
      EXPECT_EQ(done.error().code, ENOSPC) << done.error().message();
      break;
    }
  }
  // QEMU reads all acknowledged data from the file.
  void expect_all_there(const std::string& path) {
    EXPECT_TRUE(shell("qemu-img check -q " + path));
    EXPECT_TRUE(shell("qemu-img convert -O raw " + path + " " + directory_ / "copy.raw"));
    std::ifstream file(directory_ / "copy.raw", std::ios::binary);
    std::vector<std::byte> chunk(kChunkBytes);
    for (uint32_t i = 0; i < chunks_; ++i) {
      file.read(reinterpret_cast<char*>(chunk.data()), kChunkBytes);
      ASSERT_EQ(chunk, pattern(kChunkBytes, i)) << "chunk " << i;
    }
  }

  static constexpr uint64_t kChunkBytes = 20 << 10;
  static inline bool can_mount_ = false;
  std::string folder_;
  uint32_t chunks_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Engines, Qcow2FullFileSystem,
                         testing::Values(Engine::kUring, Engine::kThreaded), engine_name);

TEST_P(Qcow2FullFileSystem, KeepsWhatWasAcknowledgedAndGoesOnWithSpace) {
  const std::string path = folder_ + "/disk.qcow2";
  for (const char* options : {"cluster_size=512", "cluster_size=4k", "cluster_size=64k"})
    for (uint64_t pages = 100; pages < 108; ++pages) {
      SCOPED_TRACE(fmt::format("{}, {} pages", options, pages));
      ASSERT_TRUE(mount(pages));
      ASSERT_TRUE(shell(fmt::format("qemu-img create -q -f qcow2 -o {} {} 4M", options, path)));
      ASSERT_TRUE(open(path, {}));
      chunks_ = 0;
      write_until_full();
      EXPECT_TRUE(write(0, pattern(kChunkBytes, 0)));  // its cluster is allocated
      const auto flushed = flush();
      EXPECT_TRUE(flushed) << flushed.error().message();
      expect_all_there(path);
      ASSERT_TRUE(mount(pages + 100, MS_REMOUNT));
      write_until_full();
      EXPECT_TRUE(flush());
      expect_all_there(path);
      loop().call([&] { disk_.reset(); });
      ASSERT_EQ(::umount(folder_.c_str()), 0);
      if (HasFailure()) return;
    }
}

}  // namespace
}  // namespace wick::block
