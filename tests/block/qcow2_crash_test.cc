// The host loses power at any moment: at each operation's end, with any part of
// what no sync has covered. The image must then be sound but for leaks, and hold
// what the guest had flushed (PITFALLS 4, 5, 9).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "tests/block/guest_workload.h"
#include "tests/block/qcow2_checker.h"
#include "tests/block/qcow2_images.h"

namespace wick::block {
namespace {

using fakes::FileOperation;
using fakes::MemoryStore;
using fakes::SparseBytes;

class CrashTest : public testing::Test {
 protected:
  static constexpr size_t kSectorBytes = SectorHistory::kSectorBytes;

  uint64_t below(uint64_t limit) { return random_() % limit; }

  // One run of a guest, and then its crashes: at each operation's end the whole,
  // and so many random choices of what was not stable.
  void crash_all_along(const SmallShape& shape, uint64_t seed, int requests, int choices) {
    SCOPED_TRACE(fmt::format("{}, seed {}", shape.name, seed));
    random_.seed(seed);
    MemoryStore store;
    store.bytes = image_;
    store.can_punch = below(2) == 0;
    auto disk = folder_.open(store, below(2) == 0 ? 1 : 64 << 10);
    ASSERT_TRUE(disk) << disk.error().message();
    SectorHistory history(read_now(**disk, 0, shape.size_bytes).value());
    store.logs = true;
    store.holds = true;
    GuestWorkload guest(**disk, store, history, seed);
    guest.run(requests, 1 + below(6));
    ASSERT_EQ(guest.errors(), 0);
    expect_no_leaks(**disk, store);
    replay(store.log, history, choices);
  }

  // Nothing was lost on the way either (PITFALLS 10).
  static void expect_no_leaks(Backend& disk, MemoryStore& store) {
    store.holds = false;
    store.logs = false;
    ASSERT_TRUE(fakes::finish(disk.flush()));
    Qcow2Checker checker(store.bytes);
    checker.run();
    ASSERT_EQ(checker.faults(), "");
    EXPECT_EQ(checker.leaks(), 0u);
  }

  void replay(const std::vector<FileOperation>& log, const SectorHistory& history, int choices) {
    SparseBytes stable = image_;
    std::vector<size_t> loose;  // done, not covered by a sync
    for (size_t done = 1; done <= log.size() && !HasFailure(); ++done) {
      const FileOperation& last = log[done - 1];
      if (last.kind == FileOperation::Kind::kSync) {
        size_t covered = 0;
        for (; covered < loose.size() && loose[covered] < last.issued_at; ++covered)
          fakes::apply(log[loose[covered]], stable);
        loose.erase(loose.begin(), loose.begin() + static_cast<std::ptrdiff_t>(covered));
      } else {
        loose.push_back(done - 1);
      }
      SparseBytes all = stable;
      for (const size_t i : loose) fakes::apply(log[i], all);
      examine(all, history, done, "all");
      if (loose.empty()) continue;
      std::vector<size_t> candidates = loose;
      // What is on its way may be there in part.
      for (size_t i = done; i < std::min(log.size(), done + 40); ++i)
        if (log[i].issued_at <= done && log[i].kind != FileOperation::Kind::kSync)
          candidates.push_back(i);
      for (int choice = 0; choice < choices; ++choice)
        examine(choose(stable, all, log, candidates), history, done, what_);
    }
  }

  // Some of the candidates, whole or torn.
  SparseBytes choose(const SparseBytes& stable, const SparseBytes& all,
                     const std::vector<FileOperation>& log, const std::vector<size_t>& candidates) {
    SparseBytes image = stable;
    what_.clear();
    const uint64_t most_lost = 1 + below(4);
    for (const size_t i : candidates) {
      if (below(4) < most_lost) {
        if (below(2) == 0) continue;
        const uint64_t first = log[i].offset_bytes / kSectorBytes;
        const uint64_t end = first + below(log[i].length_bytes / kSectorBytes + 1);
        const bool prefix = below(2) == 0;
        fakes::apply(log[i], image,
                     [&](uint64_t sector) { return prefix ? sector < end : below(2) == 0; });
        what_ += fmt::format("{} torn, ", i);
      } else {
        fakes::apply(log[i], image);
        what_ += fmt::format("{}, ", i);
      }
    }
    if (below(2) == 0) image.grow(all.size_bytes());
    return image;
  }

  void examine(const SparseBytes& image, const SectorHistory& history, size_t at,
               const std::string& what) {
    ++points_;
    SCOPED_TRACE(fmt::format("crash after operation {}, of those not stable: {}", at, what));
    Qcow2Checker checker(image);
    checker.run();
    ASSERT_EQ(checker.faults(), "");
    MemoryStore store;
    store.bytes = image;
    auto disk = folder_.open(store, 64 << 10);
    ASSERT_TRUE(disk) << disk.error().message();
    ASSERT_TRUE(holds_what_it_may(**disk, history, at));
    if (points_ % kPointsPerQemuCheck == 0) ask_qemu(image, checker);
    if (points_ % kPointsPerSecondLife != 0 || HasFailure()) return;
    // Life goes on with what is there.
    SectorHistory after(read_now(**disk, 0, history.sectors() * kSectorBytes).value());
    GuestWorkload guest(**disk, store, after, points_);
    guest.run(12, 1);
    ASSERT_EQ(guest.errors(), 0);
    ASSERT_TRUE(fakes::finish((*disk)->flush()));
    Qcow2Checker again(store.bytes);
    again.run();
    ASSERT_EQ(again.faults(), "") << "in its second life";
    ASSERT_TRUE(holds_what_it_may(**disk, after, SectorHistory::kNever));
  }

  // The checker's own oracle.
  void ask_qemu(const SparseBytes& image, const Qcow2Checker& checker) {
    folder_.store("crashed.img", image);
    const std::string check = "cd " + folder_.path() + " && qemu-img check -f qcow2 crashed.img";
    ASSERT_TRUE(shell(check + "; test $? -eq " + (checker.leaks() > 0 ? "3" : "0")))
        << checker.leaks() << " leaks";
    ++qemu_checks_;
  }

  // At least so many crash points of one shape.
  void crash_often(const SmallShape& shape, uint64_t points, int requests, int choices) {
    image_ = folder_.create(shape);
    const uint64_t enough = points_ + points;
    for (uint64_t seed = 1; points_ < enough && !HasFailure(); ++seed)
      crash_all_along(shape, seed, requests * shape.weight, choices);
    RecordProperty("points", std::to_string(points_));
    RecordProperty("qemu_checks", std::to_string(qemu_checks_));
  }

  static constexpr uint64_t kPointsPerQemuCheck = 40;
  static constexpr uint64_t kPointsPerSecondLife = 7;

  ImageFolder folder_;
  SparseBytes image_;
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
