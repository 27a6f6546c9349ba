// Images with one wrong field in the header. The verdict of a check is that of qemu-img. What
// qemu-img repairs, wick repairs too, and the disk's content stays the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "block/qcow2/check.h"
#include "tests/block/hostile_images.h"
#include "tests/block/qcow2/images.h"

namespace wick::block {
namespace {

using fakes::finish;
using fakes::MemoryStore;
using testing::HasSubstr;

struct Damage {
  const char* name;
  uint64_t offset;
  size_t size_bytes;
  uint64_t value;
  // qemu-img 7.2 does not repair this one correctly, or keeps a snapshot without a name.
  bool qemu_fails = false;
};

// In the image that SetUp() makes: clusters of 4 KiB, the refcount table in cluster 1, its
// block in 2, the L1 table in 3.
constexpr Damage kDamages[] = {
    {"RefcountTableInHeader", 48, 8, 0},
    {"RefcountTableOverItsBlock", 48, 8, 2 << 12},
    {"RefcountTableOverL1", 48, 8, 3 << 12},
    {"RefcountTableOverL2", 48, 8, 4 << 12},
    {"RefcountTableBehindTheEnd", 48, 8, 1 << 24},
    {"RefcountTableFarAway", 48, 8, 1ull << 55},
    {"RefcountTableUnaligned", 48, 8, 0x1200, true},
    {"RefcountTableEmpty", 56, 4, 0},
    {"RefcountTableLonger", 56, 4, 2},
    {"RefcountTableOfAllClusters", 56, 4, 22},
    {"RefcountTableTooLong", 56, 4, ~0u, true},
    {"SnapshotsForgotten", 60, 4, 0},
    {"SnapshotsOneMore", 60, 4, 2, true},
    {"Snapshots507", 60, 4, 507, true},
    {"SnapshotsTooMany", 60, 4, 65537, true},
    {"SnapshotsInHeader", 64, 8, 0, true},
    {"SnapshotsBehindTheEnd", 64, 8, 1 << 28, true},
    {"SnapshotsOverL1", 64, 8, 3 << 12, true},
    {"SnapshotsUnaligned", 64, 8, 0x100, true},
    {"SnapshotsInData", 64, 8, 5 << 12, true},
    {"Dirty", 72, 8, 1},
    {"Corrupt", 72, 8, 2},
    {"LazyRefcounts", 80, 8, 1},
    {"BackingNothing", 8, 8, 0},
};
// Damage that neither program can repair.
constexpr Damage kHopeless[] = {
    {"Version", 4, 4, 4},
    {"ClusterBits", 20, 4, 30},
    {"Size", 24, 8, 1ull << 50},
    {"Encryption", 32, 4, 3},
    {"L1Entries", 36, 4, ~0u},
    {"L1Unaligned", 40, 8, 0x3008},
    {"Incompatible", 72, 8, 1 << 9},
    {"DataFileWithoutName", 72, 8, 4},
    {"CompressionBit", 72, 8, 8},
    {"RefcountOrder", 96, 4, 9},
    {"HeaderLength", 100, 4, 8192},
};
void PrintTo(const Damage& damage, std::ostream* out) { *out << damage.name; }

class Qcow2DamagedHeader : public testing::TestWithParam<Damage> {
 protected:
  static constexpr uint64_t kSizeBytes = 1 << 20;

  void SetUp() override {
    ASSERT_TRUE(
        in_folder("qemu-img create -q -f qcow2 -o cluster_size=4k disk.qcow2 1M && "
                  "qemu-io -c 'write -P 1 0 64k' disk.qcow2 && "
                  "qemu-img snapshot -c kept disk.qcow2 && "
                  "qemu-io -c 'write -P 2 0 16k' disk.qcow2 && "
                  "qemu-img convert -O raw disk.qcow2 good.raw"));
    store_.bytes = folder_.load("disk.qcow2");
    std::array<std::byte, 8> field{};
    store_be(std::span(field), GetParam().value << (64 - GetParam().size_bytes * 8));
    store_.bytes.write(GetParam().offset, std::span(field).first(GetParam().size_bytes));
    folder_.store("damaged.qcow2", store_.bytes);
  }
  testing::AssertionResult in_folder(const std::string& command) const {
    return shell("cd " + folder_.path() + " && " + command);
  }
  int status_of(const std::string& command) const {
    return fakes::run_shell("cd " + folder_.path() + " && " + command).status;
  }
  Result<CheckReport> check(Repair repair) {
    fakes::MemoryFile file(store_);
    return finish(check_qcow2(file, repair, [](const std::string&) {}));
  }
  static int status_of(const CheckReport& report) {
    if (report.check_errors > 0) return 1;
    if (report.corruptions > 0) return 2;
    return report.leaks > 0 ? 3 : 0;
  }

  ImageFolder folder_;
  MemoryStore store_;
};

class Qcow2HopelessHeader : public Qcow2DamagedHeader {};

INSTANTIATE_TEST_SUITE_P(Fields, Qcow2DamagedHeader, testing::ValuesIn(kDamages),
                         [](const auto& param) { return std::string(param.param.name); });
INSTANTIATE_TEST_SUITE_P(Fields, Qcow2HopelessHeader, testing::ValuesIn(kHopeless),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(Qcow2DamagedHeader, IsFoundAsQemuFindsItAndRepaired) {
  const auto before = check(Repair::kNone);
  ASSERT_TRUE(before) << before.error().message();
  const int qemu_before = status_of("qemu-img check damaged.qcow2");
  if (qemu_before != 1) {
    EXPECT_EQ(status_of(*before), qemu_before);
  } else {  // qemu-img cannot finish its check
    EXPECT_EQ(status_of(*before), 2);
  }
  const auto after = check(Repair::kAll);
  ASSERT_TRUE(after) << after.error().message();
  EXPECT_TRUE(after->clean());
  EXPECT_EQ(status_of(*check(Repair::kNone)), 0);
  folder_.store("repaired.qcow2", store_.bytes);
  EXPECT_TRUE(in_folder("qemu-img check repaired.qcow2"));
  EXPECT_TRUE(in_folder("qemu-img compare repaired.qcow2 good.raw"));
  const auto disk = folder_.open(store_, 64 << 10);
  EXPECT_TRUE(disk) << disk.error().message();
  if (!GetParam().qemu_fails) {
    status_of("qemu-img check -r all damaged.qcow2");
    EXPECT_EQ(status_of("qemu-img check damaged.qcow2"), 0);
    // With the same snapshots.
    EXPECT_TRUE(
        in_folder("qemu-img snapshot -l damaged.qcow2 > one; "
                  "qemu-img snapshot -l repaired.qcow2 > other; diff one other"));
  }
}

TEST_P(Qcow2HopelessHeader, IsRefusedAsQemuDoesAndNotChanged) {
  for (const Repair repair : {Repair::kNone, Repair::kLeaks, Repair::kAll})
    EXPECT_FALSE(check(repair));
  EXPECT_FALSE(folder_.open(store_, 64 << 10));
  EXPECT_EQ(status_of("qemu-img check damaged.qcow2"), 1);
  folder_.store("after.qcow2", store_.bytes);
  EXPECT_TRUE(in_folder("cmp damaged.qcow2 after.qcow2"));
}

}  // namespace
}  // namespace wick::block
