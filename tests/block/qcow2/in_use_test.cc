// A qcow2 disk grows while its guest runs: another program writes the new size to the header.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "block/qcow2/announced_size.h"
#include "block/qcow2/header.h"
#include "block/qcow2/resize.h"
#include "block/qcow2/snapshot_commands.h"
#include "image/copy.h"
#include "tests/block/guest_workload.h"
#include "tests/block/qcow2/checker.h"
#include "tests/block/qcow2/images.h"

namespace wick::block {
namespace {

using fakes::finish;
using fakes::MemoryStore;
using testing::HasSubstr;

Result<void> announce(MemoryStore& store, uint64_t bytes) {
  fakes::MemoryFile file(store);
  return finish(qcow2::announce_size(file, bytes));
}

Result<void> write_now(Backend& disk, uint64_t offset, std::span<const std::byte> data) {
  const iovec buffer = to_iovec(data);
  return finish(disk.write(offset, {&buffer, 1}));
}

class Qcow2InUse : public testing::TestWithParam<SmallShape> {
 protected:
  void SetUp() override {
    files_ = folder_.create(GetParam());
    ImageFolder::fill(store_, files_);
    disk_ = folder_.open(store_, 64 << 10).value();
  }
  void expect_sound() const {
    Qcow2Checker checker(store_.bytes);
    checker.run();
    EXPECT_EQ(checker.faults(), "");
  }

  ImageFolder folder_;
  ImageFolder::Files files_;
  MemoryStore store_;
  std::unique_ptr<Qcow2> disk_;
};

INSTANTIATE_TEST_SUITE_P(Shapes, Qcow2InUse, testing::ValuesIn(kSmallShapes), name_of);

TEST_P(Qcow2InUse, GrowsWhileRequestsAreInFlight) {
  const uint64_t small = GetParam().size_bytes, large = small * 8;
  std::vector<std::byte> content = read_now(*disk_, 0, small).value();
  content.resize(large);
  SectorHistory history(content);
  GuestWorkload guest(*disk_, store_, history, 5);
  store_.holds = true;
  guest.run(20, 4);
  store_.holds = false;
  ASSERT_TRUE(announce(store_, large));
  EXPECT_EQ(disk_->size_bytes(), small);
  // While requests wait for the host.
  const uint64_t id = history.begin(0, 16, SectorHistory::Content::kData, store_.log.size());
  std::vector<std::byte> data(16 * 512);
  for (uint64_t i = 0; i < 16; ++i)
    SectorHistory::fill(i, id, std::span(data).subspan(i * 512, 512));
  const iovec buffer = to_iovec(data);
  std::optional<Result<void>> written, grown;
  const auto keep = [](Task<Result<void>> task, std::optional<Result<void>>& out) -> Task<void> {
    out = co_await std::move(task);
  };
  store_.holds = true;
  spawn(keep(disk_->write(0, {&buffer, 1}), written));
  spawn(keep(disk_->update_size(), grown));
  while (!store_.held.empty()) store_.complete(store_.held.size() - 1);
  store_.holds = false;
  ASSERT_TRUE(written && *written);
  ASSERT_TRUE(grown);
  ASSERT_TRUE(*grown) << grown->error().message();
  history.end(0, 16, id);
  EXPECT_EQ(disk_->size_bytes(), large);
  EXPECT_EQ(read_now(*disk_, 0, data.size()).value(), data);
  store_.holds = true;
  guest.run(40, 4);
  store_.holds = false;
  EXPECT_EQ(guest.errors(), 0);
  EXPECT_TRUE(finish(disk_->flush()));
  expect_sound();
  const auto again = folder_.open(store_, 64 << 10);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ((*again)->size_bytes(), large);
  EXPECT_TRUE(holds_what_it_may(**again, history, SectorHistory::kNever));
}

// At each operation, the file is an image of the old size or of the new one.
TEST_P(Qcow2InUse, IsSoundWhereverWickDiesAsItGrows) {
  const uint64_t small = GetParam().size_bytes, large = small * 8;
  auto content = read_now(*disk_, 0, small).value();
  ASSERT_TRUE(announce(store_, large));
  MemoryStore left;
  ImageFolder::fill(left, files_);
  left.bytes = store_.bytes;
  store_.logs = true;
  ASSERT_TRUE(finish(disk_->update_size()));
  for (const fakes::FileOperation& operation : store_.log) {
    SCOPED_TRACE(&operation - store_.log.data());
    fakes::apply(operation, operation.beside ? left.beside->bytes : left.bytes);
    Qcow2Checker checker(left.bytes);
    checker.run();
    ASSERT_EQ(checker.faults(), "");
    const auto disk = folder_.open(left, 64 << 10);
    ASSERT_TRUE(disk) << disk.error().message();
    const uint64_t size = (*disk)->size_bytes();
    EXPECT_THAT(size, testing::AnyOf(small, large));
    content.resize(size);
    ASSERT_TRUE(read_now(**disk, 0, size).value() == content);
  }
  EXPECT_EQ(content.size(), large);
}

class Qcow2InUseNamed : public testing::Test {
 protected:
  void create(const SmallShape& shape) {
    ImageFolder::fill(store_, folder_.create(shape));
    disk_ = folder_.open(store_, 64 << 10).value();
  }
  ImageFolder folder_;
  MemoryStore store_;
  std::unique_ptr<Qcow2> disk_;
};

// The announcement must not change the size field: no program opens an image whose L1 table is
// too small, and a longer backing file would show through.
TEST_P(Qcow2InUse, IsUnchangedByASizeThatNobodyTookOver) {
  const uint64_t small = GetParam().size_bytes;
  const auto content = read_now(*disk_, 0, small).value();
  ASSERT_TRUE(finish(disk_->flush()));
  ASSERT_TRUE(announce(store_, small * 8));
  disk_.reset();
  const auto again = folder_.open(store_, 64 << 10);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ((*again)->size_bytes(), small);
  EXPECT_EQ(read_now(**again, 0, small).value(), content);
  expect_sound();
  folder_.store("disk.img", store_.bytes);
  EXPECT_TRUE(shell("cd " + folder_.path() + " && qemu-img info disk.img >info"));
}

// The guest goes on with the old size or with the new one, and so does the file.
TEST_P(Qcow2InUse, IsSoundWhicheverOperationFailsAsItGrows) {
  const uint64_t small = GetParam().size_bytes, large = small * 8;
  for (int failing = 0;; ++failing) {
    SCOPED_TRACE(failing);
    MemoryStore store;
    ImageFolder::fill(store, files_);
    auto disk = folder_.open(store, 64 << 10).value();
    const auto content = read_now(*disk, 0, small).value();
    ASSERT_TRUE(announce(store, large));
    int count = 0;
    store.failed_write_bytes = ~0ull;  // the data is written in spite of the error
    store.fault = [&](const fakes::FileOperation& operation) {
      return operation.kind != fakes::FileOperation::Kind::kSync && count++ == failing ? EIO : 0;
    };
    const auto updated = finish(disk->update_size());
    store.fault = nullptr;
    if (updated)
      EXPECT_EQ(disk->size_bytes(), large);
    else
      EXPECT_THAT(disk->size_bytes(), testing::AnyOf(small, large));
    EXPECT_EQ(read_now(*disk, 0, small).value(), content);
    ASSERT_TRUE(finish(disk->flush()));
    Qcow2Checker checker(store.bytes);
    checker.run();
    EXPECT_EQ(checker.faults(), "");
    EXPECT_EQ(checker.leaks(), 0u);
    const auto again = folder_.open(store, 64 << 10);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ((*again)->size_bytes(), disk->size_bytes());
    if (count <= failing) break;
  }
}

TEST_F(Qcow2InUseNamed, TakesTheLengthOfRawExternalData) {
  create({"", "cluster_size=4k,data_file_raw=on", 512 << 10, false, "", false, 1, true});
  store_.beside->bytes.grow(4 << 20);
  ASSERT_TRUE(finish(disk_->update_size()));
  EXPECT_EQ(disk_->size_bytes(), 4u << 20);
  EXPECT_EQ(folder_.open(store_, 64 << 10).value()->size_bytes(), 4u << 20);
}

// With data_file_raw=on the data file is a raw disk.
TEST_F(Qcow2InUseNamed, ShowsWhatRawExternalDataHasBehindItsOldEnd) {
  create({"", "cluster_size=4k,data_file_raw=on", (512 << 10) - 1536, false, "", false, 1, true});
  store_.beside->bytes.grow(4 << 20);
  store_.beside->bytes.write((512 << 10) - 1024, pattern(700 << 10, 3));
  ASSERT_TRUE(finish(disk_->update_size()));
  const auto sector = pattern(512, 4);
  ASSERT_TRUE(write_now(*disk_, 2 << 20, sector));
  ASSERT_TRUE(finish(disk_->flush()));
  std::vector<std::byte> file(4 << 20);
  store_.beside->bytes.read(0, file);
  EXPECT_TRUE(read_now(*disk_, 0, file.size()).value() == file);
  EXPECT_TRUE(std::ranges::equal(std::span(file).subspan((512 << 10) - 1024, 700 << 10),
                                 pattern(700 << 10, 3)));
}

// Otherwise only mapped clusters of the data file belong to the disk.
TEST_F(Qcow2InUseNamed, GrowsByZeroesWhateverItsOtherFilesHaveThere) {
  for (const char* const more : {",preallocation=metadata", " -b base.raw -F raw"}) {
    SCOPED_TRACE(more);
    const uint64_t small = (256 << 10) - 1536, large = 4 << 20;
    create({"", "cluster_size=4k", 512 << 10, true, "", false, 1, true});
    ASSERT_TRUE(
        shell(fmt::format("cd {} && rm data.raw && qemu-img create -q -f qcow2 -o "
                          "cluster_size=4k,data_file=data.raw{} disk.img {}",
                          folder_.path(), more, small)));
    disk_.reset();
    store_.bytes = folder_.load("disk.img");
    store_.beside->bytes = folder_.load("data.raw");
    store_.beside->bytes.write(small, pattern(512 << 10, 3));
    disk_ = folder_.open(store_, 64 << 10).value();
    ASSERT_TRUE(announce(store_, large));
    ASSERT_TRUE(finish(disk_->update_size()));
    ASSERT_TRUE(write_now(*disk_, (300 << 10) + 512, std::vector<std::byte>(512)));
    EXPECT_TRUE(is_zero(read_now(*disk_, small, large - small).value()));
    disk_.reset();
  }
}

TEST_F(Qcow2InUseNamed, DoesNotBecomeSmaller) {
  create({"", "cluster_size=4k", 512 << 10});
  EXPECT_FALSE(announce(store_, 256 << 10));
  EXPECT_TRUE(finish(disk_->update_size()));
  EXPECT_EQ(disk_->size_bytes(), 512u << 10);
}

TEST_F(Qcow2InUseNamed, DoesNotTakeASizeThatAnotherProgramWroteIntoItsHeader) {
  create({"", "cluster_size=4k", 512 << 10});
  for (const uint64_t size : {256 << 10, 1 << 20}) {
    std::array<std::byte, 8> field{};
    store_be(std::span(field), size);
    store_.bytes.write(24, field);
    const auto updated = finish(disk_->update_size());
    ASSERT_FALSE(updated);
    EXPECT_THAT(updated.error().message(), HasSubstr("another program has changed the image"));
    EXPECT_EQ(disk_->size_bytes(), 512u << 10);
  }
}

// A resize cancels an earlier announcement, even if the disk returns to its old size.
TEST_F(Qcow2InUseNamed, ForgetsASizeOnceTheDiskHadAnother) {
  create({"", "cluster_size=4k", 512 << 10});
  ASSERT_TRUE(announce(store_, 2 << 20));
  ASSERT_TRUE(finish(qcow2::resize(*disk_, 1 << 20)));
  ASSERT_TRUE(finish(qcow2::resize(*disk_, 512 << 10)));
  ASSERT_TRUE(finish(disk_->update_size()));
  EXPECT_EQ(disk_->size_bytes(), 512u << 10);
}

// A hostile image may come with an announcement, and must not grow by it. The user can announce
// the size again.
TEST_F(Qcow2InUseNamed, TakesOnlyASizeThatWasAnnouncedWhileItIsOpen) {
  create({"", "cluster_size=4k", 512 << 10});
  ASSERT_TRUE(announce(store_, 2 << 20));
  disk_ = folder_.open(store_, 64 << 10).value();
  ASSERT_TRUE(finish(disk_->update_size()));
  EXPECT_EQ(disk_->size_bytes(), 512u << 10);
  ASSERT_TRUE(announce(store_, 2 << 20));
  ASSERT_TRUE(finish(disk_->update_size()));
  EXPECT_EQ(disk_->size_bytes(), 2u << 20);
}

TEST_F(Qcow2InUseNamed, ForgetsASizeOnceASnapshotIsApplied) {
  create({"", "cluster_size=4k", 512 << 10});
  ASSERT_TRUE(finish(qcow2::create_snapshot(disk_->metadata(), "small")));
  ASSERT_TRUE(finish(qcow2::resize(*disk_, 1 << 20)));
  ASSERT_TRUE(finish(qcow2::create_snapshot(disk_->metadata(), "large")));
  ASSERT_TRUE(announce(store_, 2 << 20));
  ASSERT_TRUE(finish(qcow2::apply_snapshot(disk_->metadata(), "small")));
  EXPECT_EQ(disk_->size_bytes(), 512u << 10);
  ASSERT_TRUE(finish(qcow2::apply_snapshot(disk_->metadata(), "large")));
  ASSERT_TRUE(finish(disk_->update_size()));
  EXPECT_EQ(disk_->size_bytes(), 1u << 20);
}

TEST_F(Qcow2InUseNamed, RefusesASizeForWhichItsHeaderHasNoRoom) {
  create({"", "cluster_size=512", 128 << 10});
  auto header = finish(qcow2::read_header(*std::make_unique<fakes::MemoryFile>(store_))).value();
  header.backing_path = std::string(512 - 24 - header.used_bytes, 'b');
  for (const bool fits : {true, false}) {
    const auto cluster = qcow2::format_header(header, 0).value();
    store_.bytes.write(0, cluster);
    const auto announced = announce(store_, 256 << 10);
    EXPECT_EQ(announced.has_value(), fits);
    EXPECT_THAT(fits ? "has no room" : announced.error().message(), HasSubstr("has no room"));
    header.backing_path += 'b';
  }
}

// `qemu-img resize` without locks moves them.
TEST_F(Qcow2InUseNamed, RefusesAnImageWhoseTablesAnotherProgramMoved) {
  create({"", "cluster_size=4k", 512 << 10});
  folder_.store("disk.img", store_.bytes);
  ASSERT_TRUE(shell("cd " + folder_.path() + " && qemu-img resize disk.img 64M"));
  store_.bytes = folder_.load("disk.img");
  const auto updated = finish(disk_->update_size());
  ASSERT_FALSE(updated);
  EXPECT_THAT(updated.error().message(), HasSubstr("another program has changed the image"));
  EXPECT_EQ(disk_->size_bytes(), 512u << 10);
}

}  // namespace
}  // namespace wick::block
