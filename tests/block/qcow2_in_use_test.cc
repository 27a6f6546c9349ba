// A qcow2 disk grows under its guest: another program tells the size in the header.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/block/guest_workload.h"
#include "tests/block/qcow2_checker.h"
#include "tests/block/qcow2_images.h"

namespace wick::block {
namespace {

using fakes::finish;
using fakes::MemoryStore;
using testing::HasSubstr;

Result<void> announce(MemoryStore& store, uint64_t bytes) {
  fakes::MemoryFile file(store);
  return finish(qcow2::announce_size(file, bytes));
}

class Qcow2InUse : public testing::TestWithParam<SmallShape> {
 protected:
  void SetUp() override {
    ImageFolder::fill(store_, folder_.create(GetParam()));
    disk_ = folder_.open(store_, 64 << 10).value();
  }
  void expect_sound() const {
    Qcow2Checker checker(store_.bytes);
    checker.run();
    EXPECT_EQ(checker.faults(), "");
  }

  ImageFolder folder_;
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
  // Beside requests that wait for the host.
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

TEST_F(Qcow2InUseNamed, TakesTheLengthOfRawExternalData) {
  create({"", "cluster_size=4k,data_file_raw=on", 512 << 10, false, "", false, 1, true});
  store_.beside->bytes.grow(4 << 20);
  ASSERT_TRUE(finish(disk_->update_size()));
  EXPECT_EQ(disk_->size_bytes(), 4u << 20);
  EXPECT_EQ(folder_.open(store_, 64 << 10).value()->size_bytes(), 4u << 20);
}

TEST_F(Qcow2InUseNamed, DoesNotBecomeSmaller) {
  create({"", "cluster_size=4k", 512 << 10});
  EXPECT_FALSE(announce(store_, 256 << 10));
  std::array<std::byte, 8> field{};
  store_be(std::span(field), uint64_t{256 << 10});
  store_.bytes.write(24, field);
  const auto updated = finish(disk_->update_size());
  ASSERT_FALSE(updated);
  EXPECT_THAT(updated.error().message(), HasSubstr("cannot become smaller"));
  EXPECT_EQ(disk_->size_bytes(), 512u << 10);
}

// As `qemu-img resize` without locks does it.
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
