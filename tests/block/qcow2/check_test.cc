// Checking and repairing images, with qemu-img check as the oracle: images damaged at random
// get the same verdict from both, and after wick's repair qemu-img finds nothing.
#include "block/qcow2/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdlib>
#include <random>

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"
#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

constexpr uint64_t kOffset = 0x00ff'ffff'ffff'fe00;

class Qcow2Check : public DiskFixture {
 protected:
  int shell(const std::string& command) const {
    return fakes::run_shell("cd " + directory_.path() + " && (" + command + ")").status;
  }

  void create(const std::string& options, const std::string& size) {
    ASSERT_EQ(shell("qemu-img create -f qcow2 -o compat=1.1" +
                    (options.empty() ? "" : "," + options) + " disk.img " + size),
              0);
  }
  void write_by_qemu(const std::string& commands) {
    ASSERT_EQ(shell("qemu-io -f qcow2 " + commands + " disk.img"), 0);
  }

  void patch(uint64_t offset, uint64_t value) {
    auto bytes = file_content();
    store_be(std::span(bytes).subspan(offset), value);
    make_file(path_, bytes);
  }
  uint64_t at(uint64_t offset) const {
    return load_be<uint64_t>(std::span<const std::byte>(file_content()).subspan(offset));
  }
  uint64_t l1() const { return at(40); }
  uint64_t first_l2() const {
    uint64_t entry = l1();
    while ((at(entry) & kOffset) == 0) entry += 8;
    return at(entry) & kOffset;
  }
  uint64_t first_block() const { return at(at(48)) & kOffset; }

  Result<CheckReport> check(Repair repair = Repair::kNone) {
    ImageOptions options;
    options.format = Format::kQcow2;
    auto opened = open_image_file(path_, options, *io_);
    if (!opened) return std::unexpected(opened.error());
    findings_ = 0;
    return run_on(loop(),
                  check_qcow2(*opened->file, repair, [this](const std::string&) { ++findings_; }));
  }
  // The exit status that qemu-img would have.
  static int verdict(const Result<CheckReport>& report) {
    if (!report || report->check_errors > 0) return 1;
    if (report->corruptions > 0) return 2;
    return report->leaks > 0 ? 3 : 0;
  }

  uint64_t findings_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Engines, Qcow2Check, testing::Values(Engine::kUring), engine_name);

TEST_P(Qcow2Check, OfASoundImageFindsNothing) {
  create("", "10M");
  write_by_qemu("-c 'write 1M 3M' -c 'write -c 5M 64k' -c 'write -z 6M 1M'");
  ASSERT_EQ(shell("qemu-img snapshot -c one disk.img && qemu-img bitmap --add disk.img map"), 0);
  write_by_qemu("-c 'write 2M 100k'");
  const auto report = check();
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_TRUE(report->clean());
  EXPECT_EQ(findings_, 0u);
  EXPECT_EQ(report->total_clusters, 160u);
  EXPECT_EQ(report->compressed_clusters, 1u);
}

TEST_P(Qcow2Check, FindsAndRepairsLeaks) {
  create("", "10M");
  write_by_qemu("-c 'write 0 1M'");
  patch(first_l2(), 0);
  const auto report = check();
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_EQ(report->leaks, 1u);
  EXPECT_EQ(report->corruptions, 0u);
  const auto repaired = check(Repair::kLeaks);
  ASSERT_TRUE(repaired) << repaired.error().message();
  EXPECT_EQ(repaired->leaks_fixed, 1u);
  EXPECT_TRUE(repaired->clean());
  EXPECT_EQ(shell("qemu-img check disk.img"), 0);
}

TEST_P(Qcow2Check, RepairsOnlyLeaksIfAskedForThat) {
  create("", "10M");
  write_by_qemu("-c 'write 0 1M'");
  patch(first_block(), 0);  // of the first four clusters
  EXPECT_EQ(verdict(check(Repair::kLeaks)), 2);
  EXPECT_EQ(shell("qemu-img check disk.img"), 2);
  EXPECT_EQ(verdict(check(Repair::kAll)), 0);
  EXPECT_EQ(shell("qemu-img check disk.img"), 0);
}

TEST_P(Qcow2Check, RebuildsLostReferenceCounts) {
  create("cluster_size=4k", "10M");
  write_by_qemu("-c 'write -P 3 0 1M'");
  patch(at(48), 0);  // the refcount table
  EXPECT_EQ(verdict(check()), 2);
  EXPECT_EQ(verdict(check(Repair::kAll)), 0);
  EXPECT_EQ(shell("qemu-img check disk.img && qemu-io -c 'read -P 3 0 1M' disk.img"), 0);
}

TEST_P(Qcow2Check, ClearsTheDirtyAndTheCorruptBit) {
  create("", "10M");
  write_by_qemu("-c 'write 0 1M'");
  patch(72, 3);
  EXPECT_EQ(verdict(check()), 0);
  EXPECT_EQ(at(72), 3u);
  EXPECT_EQ(verdict(check(Repair::kAll)), 0);
  EXPECT_EQ(at(72), 0u);
}

TEST_P(Qcow2Check, MakesAnInvalidEntryReadAsZeroes) {
  create("", "10M");
  write_by_qemu("-c 'write -P 1 0 256k'");
  patch(first_l2() + 8, 0x8000'1234'5678'0000);  // beyond the file's end
  EXPECT_EQ(verdict(check()), 2);
  EXPECT_EQ(verdict(check(Repair::kAll)), 0);
  EXPECT_EQ(shell("qemu-img check disk.img && qemu-io -c 'read -P 1 0 64k' -c 'read -P 0 64k 64k' "
                  "-c 'read -P 1 128k 128k' disk.img"),
            0);
}

TEST_P(Qcow2Check, KnowsThatADataFileIsNotShared) {
  create("data_file=" + directory_ / "data.raw", "4M");
  write_by_qemu("-c 'write -P 1 0 256k'");
  EXPECT_EQ(verdict(check()), 0);
  patch(first_l2() + 8, 1 << 16);  // without the copied flag
  EXPECT_EQ(verdict(check()), 2);
  EXPECT_EQ(shell("qemu-img check disk.img"), 2);
  EXPECT_EQ(verdict(check(Repair::kAll)), 0);
  EXPECT_EQ(shell("qemu-img check disk.img && qemu-io -c 'read -P 1 0 256k' disk.img"), 0);
}

TEST_P(Qcow2Check, OfOverlappingTablesEnds) {
  create("cluster_size=512", "4M");
  write_by_qemu("-c 'write 0 1M'");
  // Every L1 entry leads to the same table, which leads to itself.
  auto bytes = file_content();
  const uint64_t table = first_l2();
  for (uint64_t i = 0; i < 128; ++i) store_be(std::span(bytes).subspan(l1() + i * 8), table);
  for (uint64_t i = 0; i < 64; ++i) store_be(std::span(bytes).subspan(table + i * 8), table);
  make_file(path_, bytes);
  EXPECT_EQ(verdict(check()), shell("qemu-img check disk.img"));
  check(Repair::kAll);
}

TEST_P(Qcow2Check, OfASmallFileThatClaimsMuchTakesLittleMemory) {
  create("cluster_size=512", "4M");
  write_by_qemu("-c 'write 0 2M'");
  auto bytes = file_content();
  // Entries that point all over a file that is nearly one hole.
  std::minstd_rand random(1);
  for (uint64_t i = 0; i < 64; ++i) {
    const uint64_t table = load_be<uint64_t>(std::span(bytes).subspan(l1() + i * 8)) & kOffset;
    for (uint64_t at = 0; table != 0 && at < 512; at += 8)
      store_be(std::span(bytes).subspan(table + at), uint64_t{random()} % (1 << 30) << 9);
  }
  make_file(path_, bytes);
  std::filesystem::resize_file(path_, 1ull << 39);
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  EXPECT_EQ(verdict(check()), 2);
  ::getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 << 10);  // KiB
}

TEST_P(Qcow2Check, OfAnImageDamagedAtRandomSaysWhatQemuSays) {
  constexpr const char* kShapes[] = {"", "cluster_size=512", "cluster_size=4k,refcount_bits=8",
                                     "cluster_size=16k,extended_l2=on", "cluster_size=2k"};
  std::mt19937 random(5);
  const auto below = [&](uint64_t limit) { return random() % limit; };
  for (int image = 0; image < 5; ++image) {
    create(kShapes[image], "2M");
    for (int i = 0; i < 6; ++i) {
      write_by_qemu(
          fmt::format("-c 'write -P {} {} {}'", i + 1, below(2000) * 512, (1 + below(400)) * 512));
      if (i == 3) {
        ASSERT_EQ(shell("qemu-img snapshot -c a disk.img"), 0);
      }
    }
    const auto sound = file_content();
    const uint64_t cluster = 1ull << at(16) % (1ull << 32);
    const uint64_t tables[] = {l1(), first_l2(), first_l2(), at(48), first_block()};
    for (int i = 0; i < 12; ++i) {
      auto bytes = sound;
      for (uint64_t n = 1 + below(3); n > 0; --n) {
        const uint64_t place = tables[below(5)] + below(8) * 8;
        const uint64_t wrong[] = {
            0, below(sound.size() / cluster + 3) * cluster,
            (1ull << 63) | below(sound.size() / cluster + 3) * cluster,
            load_be<uint64_t>(std::span(sound).subspan(place)) ^ (1ull << below(64))};
        store_be(std::span(bytes).subspan(place), wrong[below(4)]);
      }
      make_file(path_, bytes);
      EXPECT_EQ(verdict(check()), shell("qemu-img check disk.img")) << image << " " << i;
      EXPECT_EQ(verdict(check(Repair::kAll)), 0) << image << " " << i;
      EXPECT_EQ(shell("qemu-img check disk.img"), 0) << image << " " << i;
    }
  }
}

TEST_P(Qcow2Check, IsDoneForADirtyImageWhenItIsOpenedForWriting) {
  create("lazy_refcounts=on", "4M");
  // qemu-io aborts before it writes the refcounts.
  shell("qemu-io -f qcow2 -c 'write -P 5 0 512k' -c 'abort' disk.img");
  ASSERT_EQ(at(72) & 1, 1u);
  ASSERT_EQ(shell("qemu-img check disk.img"), 2);
  ASSERT_TRUE(open({.format = Format::kQcow2}));
  EXPECT_EQ(read_bytes(0, 512 << 10), std::vector<std::byte>(512 << 10, std::byte{5}));
  ASSERT_TRUE(flush());
  disk_.reset();
  EXPECT_EQ(shell("qemu-img check disk.img"), 0);
}

}  // namespace
}  // namespace wick::block
