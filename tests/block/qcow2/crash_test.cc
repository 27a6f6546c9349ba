// The host loses power at any moment: at each operation's end, and any part of the writes
// after the last sync is lost. The image must then have no faults except leaks, and hold what
// the guest had flushed (PITFALLS 4, 5, 9) and the changes of the whole image.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "tests/block/guest_workload.h"
#include "tests/block/image_keeper.h"
#include "tests/block/qcow2/checker.h"
#include "tests/block/qcow2/images.h"

namespace wick::block {
namespace {

using fakes::FileOperation;
using fakes::MemoryStore;
using Files = ImageFolder::Files;

class CrashTest : public testing::Test {
 protected:
  static constexpr size_t kSectorBytes = SectorHistory::kSectorBytes;

  uint64_t below(uint64_t limit) { return random_() % limit; }

  // One run of a guest, and then crashes at each operation's end: one with all writes, and
  // `choices` with random parts of the writes that were not stable.
  void crash_all_along(const SmallShape& shape, uint64_t seed, int requests, int choices) {
    SCOPED_TRACE(fmt::format("{}, seed {}", shape.name, seed));
    random_.seed(seed);
    MemoryStore store;
    ImageFolder::fill(store, files_);
    store.can_discard = below(2) == 0;
    auto opened = folder_.open(store, below(2) == 0 ? 1 : 64 << 10);
    ASSERT_TRUE(opened) << opened.error().message();
    std::unique_ptr<Qcow2> disk = *std::move(opened);
    SectorHistory history(read_now(*disk, 0, shape.size_bytes).value());
    ImageKeeper keeper(store, folder_, disk, history, seed);
    store.logs = true;
    constexpr int kRuns = 4;
    for (int run = 0; run < kRuns && !HasFatalFailure(); ++run) {
      if (run > 0) keeper.change();
      GuestWorkload guest(*disk, store, history, seed + static_cast<uint64_t>(run) * 1000);
      store.holds = true;
      guest.run(requests / kRuns, 1 + below(6));
      store.holds = false;
      ASSERT_EQ(guest.errors(), 0);
    }
    if (HasFatalFailure()) return;
    expect_no_leaks(*disk, store);
    ASSERT_TRUE(keeper.finds_what_must_be(*disk, SectorHistory::kNever, false));
    replay(store.log, history, keeper, choices);
  }

  // The run itself leaks nothing, either (PITFALLS 10).
  static void expect_no_leaks(Backend& disk, MemoryStore& store) {
    store.logs = false;
    ASSERT_TRUE(fakes::finish(disk.flush()));
    Qcow2Checker checker(store.bytes);
    checker.run();
    ASSERT_EQ(checker.faults(), "");
    EXPECT_EQ(checker.leaks(), 0u);
  }

  void replay(const std::vector<FileOperation>& log, const SectorHistory& history,
              const ImageKeeper& keeper, int choices) {
    Files stable = files_;
    std::vector<size_t> loose;  // done, but not covered by a sync
    for (size_t done = 1; done <= log.size() && !HasFailure(); ++done) {
      const FileOperation& last = log[done - 1];
      if (last.kind == FileOperation::Kind::kSync)
        std::erase_if(loose, [&](size_t i) {
          const bool covered = log[i].beside == last.beside && i < last.issued_at;
          if (covered) apply(log[i], stable);
          return covered;
        });
      else
        loose.push_back(done - 1);
      Files all = stable;
      for (const size_t i : loose) apply(log[i], all);
      examine(all, history, keeper, done, "all");
      if (loose.empty()) continue;
      std::vector<size_t> candidates = loose;
      // Operations in flight may be done in part.
      for (size_t i = done; i < std::min(log.size(), done + 40); ++i)
        if (log[i].issued_at <= done && log[i].kind != FileOperation::Kind::kSync)
          candidates.push_back(i);
      for (int choice = 0; choice < choices; ++choice)
        examine(choose(stable, all, log, candidates), history, keeper, done, what_);
    }
  }

  static void apply(const FileOperation& operation, Files& files,
                    const std::function<bool(uint64_t)>& sectors = {}) {
    fakes::apply(operation, operation.beside ? *files.beside : files.image, sectors);
  }

  // Applies some of the candidates, whole or torn.
  Files choose(const Files& stable, const Files& all, const std::vector<FileOperation>& log,
               const std::vector<size_t>& candidates) {
    Files files = stable;
    what_.clear();
    const uint64_t most_lost = 1 + below(4);
    for (const size_t i : candidates) {
      if (below(4) < most_lost) {
        if (below(2) == 0) continue;
        const uint64_t first = log[i].offset_bytes / kSectorBytes;
        const uint64_t end = first + below(log[i].length_bytes / kSectorBytes + 1);
        const bool prefix = below(2) == 0;
        apply(log[i], files,
              [&](uint64_t sector) { return prefix ? sector < end : below(2) == 0; });
        what_ += fmt::format("{} torn, ", i);
      } else {
        apply(log[i], files);
        what_ += fmt::format("{}, ", i);
      }
    }
    if (below(2) == 0) files.image.grow(all.image.size_bytes());
    return files;
  }

  void examine(const Files& files, const SectorHistory& history, const ImageKeeper& keeper,
               size_t at, const std::string& what) {
    ++points_;
    SCOPED_TRACE(fmt::format("crash after operation {}, of those not stable: {}", at, what));
    const bool loose_flags = keeper.changed_snapshots();
    Qcow2Checker checker(files.image, loose_flags);
    checker.run();
    ASSERT_EQ(checker.faults(), "");
    MemoryStore store;
    ImageFolder::fill(store, files);
    auto opened = folder_.open(store, 64 << 10);
    ASSERT_TRUE(opened) << opened.error().message();
    std::unique_ptr<Qcow2> disk = *std::move(opened);
    ASSERT_TRUE(holds_what_it_may(*disk, history, at, keeper.uncut_bytes(at)));
    ASSERT_TRUE(keeper.finds_what_must_be(*disk, at, false));
    if (points_ % kPointsPerQemuCheck == 0) ask_qemu(files);
    if (points_ % kPointsPerSecondLife != 0 || HasFailure()) return;
    // A guest goes on with the image after the crash.
    std::vector<std::byte> there = read_now(*disk, 0, disk->size_bytes()).value();
    there.resize(history.sectors() * kSectorBytes);
    SectorHistory after(std::move(there));
    ImageKeeper heir(store, folder_, disk, after, points_);
    heir.change();
    GuestWorkload guest(*disk, store, after, points_);
    guest.run(12, 1);
    ASSERT_EQ(guest.errors(), 0);
    ASSERT_TRUE(fakes::finish(disk->flush()));
    Qcow2Checker again(store.bytes, loose_flags);
    again.run();
    ASSERT_EQ(again.faults(), "") << "in its second life";
    ASSERT_TRUE(holds_what_it_may(*disk, after, SectorHistory::kNever));
    ASSERT_TRUE(heir.finds_what_must_be(*disk, SectorHistory::kNever, true));
    examine_snapshots(files, keeper, at);
  }

  void examine_snapshots(const Files& files, const ImageKeeper& keeper, size_t at) {
    MemoryStore store;
    ImageFolder::fill(store, files);
    const auto disk = folder_.open(store, 64 << 10).value();
    ASSERT_TRUE(keeper.finds_what_must_be(*disk, at, true));
  }

  // The checker's own oracle.
  void ask_qemu(const Files& files) {
    Qcow2Checker checker(files.image);
    checker.run();
    folder_.store("crashed.img", files.image);
    if (files.beside) folder_.store(beside_name_, *files.beside);
    const std::string check = "cd " + folder_.path() + " && qemu-img check -f qcow2 crashed.img";
    const char* const status = !checker.faults().empty() ? "2" : checker.leaks() > 0 ? "3" : "0";
    ASSERT_TRUE(shell(check + "; test $? -eq " + status))
        << checker.leaks() << " leaks, " << checker.faults();
    ++qemu_checks_;
  }

  // Tests at least `points` crash points of one shape.
  void crash_often(const SmallShape& shape, uint64_t points, int requests, int choices) {
    files_ = folder_.create(shape);
    beside_name_ = shape.data_file ? "data.raw" : "base.raw";
    const uint64_t enough = points_ + points;
    for (uint64_t seed = 1; points_ < enough && !HasFailure(); ++seed)
      crash_all_along(shape, seed, requests * shape.weight, choices);
    RecordProperty("points", std::to_string(points_));
    RecordProperty("qemu_checks", std::to_string(qemu_checks_));
  }

  static constexpr uint64_t kPointsPerQemuCheck = 40;
  static constexpr uint64_t kPointsPerSecondLife = 7;

  ImageFolder folder_;
  Files files_;
  std::string beside_name_;
  std::mt19937_64 random_;
  std::string what_;
  uint64_t points_ = 0;
  uint64_t qemu_checks_ = 0;
};

class Qcow2Crash : public CrashTest, public testing::WithParamInterface<SmallShape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, Qcow2Crash, testing::ValuesIn(kSmallShapes), name_of);

TEST_P(Qcow2Crash, LeavesASoundImageWithAllThatWasFlushed) { crash_often(GetParam(), 500, 40, 2); }

using Qcow2CrashOfAnyShape = CrashTest;

TEST_F(Qcow2CrashOfAnyShape, LeavesASoundImageWithAllThatWasFlushedLong) {
  for (const SmallShape& shape : kSmallShapes) {
    crash_often(shape, 100'000 / std::size(kSmallShapes) + 1, 100, 6);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace wick::block
