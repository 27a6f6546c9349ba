// Changes of a whole image in memory: sizes, snapshots, commit, rebase. An ImageKeeper makes
// random changes between the runs of a disk's guest, and records what the image must hold.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "block/qcow2/empty.h"
#include "block/qcow2/resize.h"
#include "block/qcow2/snapshot_commands.h"
#include "image/layers.h"
#include "tests/block/qcow2/images.h"
#include "tests/block/sector_history.h"

namespace wick::block {

// Does the same as wick image commit.
inline Result<void> commit_image(fakes::MemoryStore& store, Qcow2& disk) {
  disk.take_backing().reset();
  fakes::MemoryStore& below = *store.beside;
  if (below.bytes.size_bytes() < disk.size_bytes())
    TRY(fakes::MemoryFile(below).truncate(disk.size_bytes()));
  const auto base = ImageFolder::open_base(below, false);
  TRY(fakes::finish(image::commit_layer(disk, *base, {})));
  TRY(fakes::finish(qcow2::make_empty(disk.metadata())));
  disk.set_backing(ImageFolder::open_base(below, true));
  return {};
}

// Does the same as wick image rebase, from the base to none or back. Opens `disk` again; after
// an error it may be null.
inline Result<void> rebase_image(fakes::MemoryStore& store, ImageFolder& folder,
                                 std::unique_ptr<Qcow2>& disk) {
  const bool to_base = disk->header().backing_path.empty();
  const std::unique_ptr<Backend> old_base = disk->take_backing();
  if (to_base) disk->set_backing(ImageFolder::open_base(*store.beside, true));
  TRY(fakes::finish(image::rebase_layer(*disk, old_base.get(), {})));
  disk.reset();
  fakes::MemoryFile file(store);
  TRY(fakes::finish(to_base ? image::name_backing(file, "base.raw", "raw")
                            : image::name_backing(file, "", "")));
  disk = TRY(folder.open(store, 64 << 10));
  return {};
}

class ImageKeeper {
 public:
  // `disk` is open on `store`; the keeper may open it anew. The history has the disk's maximum
  // size.
  ImageKeeper(fakes::MemoryStore& store, ImageFolder& folder, std::unique_ptr<Qcow2>& disk,
              SectorHistory& history, uint64_t seed)
      : store_(store),
        folder_(folder),
        disk_(disk),
        history_(history),
        random_(seed),
        next_(seed * 3 + seed / 2) {
    sizes_.push_back({disk->size_bytes(), 0, 0});
  }

  // No request of the guest may be in flight.
  void change() {
    const qcow2::Header& header = disk_->header();
    const bool over_base = !header.external_data() && store_.beside != nullptr;
    const bool has_base = over_base && !header.backing_path.empty();
    const bool can_snapshot = header.refcount_bits() >= 8 && !header.external_data();
    switch (next_++ % 6) {
      case 0:
        if (can_snapshot) return create_snapshot();
        break;
      case 2:
        if (over_base) return rebase();
        break;
      case 3:
        if (has_base) return commit();
        break;
      case 5:
        if (!snapshots_.empty()) return random_() % 2 == 0 ? apply_snapshot() : delete_snapshot();
        if (can_snapshot) return create_snapshot();
        break;
      default:
        break;
    }
    if (header.version > 2 || header.snapshot_count == 0) resize();
  }

  bool changed_snapshots() const { return !snapshots_.empty() || snapshot_number_ > 0; }

  // The size after a shrink that has begun and not ended: beyond it the content is undefined.
  uint64_t uncut_bytes(size_t at) const {
    uint64_t bytes = ~0ull;
    for (size_t i = 1; i < sizes_.size(); ++i)
      if (sizes_[i].begun_at <= at && at < sizes_[i].ended_at &&
          sizes_[i].bytes < sizes_[i - 1].bytes)
        bytes = sizes_[i].bytes;
    return bytes;
  }

  // Whether the disk has the size and snapshots that it must have after a crash at moment
  // `at`, or now (kNever). Changes `disk`.
  testing::AssertionResult finds_what_must_be(Qcow2& disk, size_t at, bool with_contents) const {
    bool possible = false;
    for (size_t i = sizes_.size(); i-- > 0 && !possible;) {
      possible = sizes_[i].begun_at <= at && disk.size_bytes() == sizes_[i].bytes;
      if (sizes_[i].ended_at <= at) break;
    }
    if (!possible) return testing::AssertionFailure() << "a size of " << disk.size_bytes();
    const auto there = fakes::finish(qcow2::list_snapshots(disk.metadata()));
    if (!there) return testing::AssertionFailure() << there.error().message();
    for (const Snapshot& snapshot : snapshots_) {
      const bool is_there =
          std::ranges::find(*there, snapshot.name, &qcow2::Snapshot::name) != there->end();
      if (!is_there && snapshot.made_at <= at && at < snapshot.dying_at)
        return testing::AssertionFailure() << "no snapshot " << snapshot.name;
      if (!is_there || !with_contents || at >= snapshot.known_until) continue;
      const auto applied = fakes::finish(qcow2::apply_snapshot(disk.metadata(), snapshot.name));
      if (!applied) return testing::AssertionFailure() << applied.error().message();
      if (read_now(disk, 0, disk.size_bytes()).value() != *snapshot.content)
        return testing::AssertionFailure() << "snapshot " << snapshot.name << " differs";
    }
    return testing::AssertionSuccess();
  }

 private:
  using Bytes = std::vector<std::byte>;
  static constexpr size_t kSectorBytes = SectorHistory::kSectorBytes;
  static constexpr size_t kNever = SectorHistory::kNever;
  struct Size {
    uint64_t bytes = 0;
    size_t begun_at = 0;
    size_t ended_at = kNever;
  };
  struct Snapshot {
    std::string name;
    std::shared_ptr<const Bytes> content;
    size_t made_at = kNever;
    size_t dying_at = kNever;
    size_t known_until = kNever;  // then the content of the backing file changes
  };

  size_t now() const { return store_.log.size(); }

  // Changes the content by `act`, which makes the change stable.
  template <typename Act>
  void change_content(uint64_t bytes, std::shared_ptr<const Bytes> content, Act act) {
    const uint64_t sectors = bytes / kSectorBytes;
    const uint64_t given =
        content ? content->size() / kSectorBytes : disk_->size_bytes() / kSectorBytes;
    const uint64_t from = std::min(given, sectors);
    uint64_t given_id = 0;
    if (content) given_id = history_.begin_given(content, now());
    const uint64_t zero_id =
        history_.begin(from, history_.sectors() - from, SectorHistory::Content::kZeroes, now());
    sizes_.push_back({bytes, now()});
    const Result<void> done = act();
    ASSERT_TRUE(done) << done.error().message();
    ASSERT_EQ(disk_->size_bytes(), bytes);
    sizes_.back().ended_at = now();
    if (content) history_.end(0, given, given_id);
    history_.end(from, history_.sectors() - from, zero_id);
    history_.end_flush(history_.begin_flush(), now());
  }

  void resize() {
    const uint64_t bytes = (1 + random_() % history_.sectors()) * kSectorBytes;
    change_content(bytes, nullptr, [&] { return fakes::finish(qcow2::resize(*disk_, bytes)); });
  }

  void create_snapshot() {
    Snapshot& snapshot = snapshots_.emplace_back();
    snapshot.name = "kept" + std::to_string(++snapshot_number_);
    snapshot.content =
        std::make_shared<const Bytes>(read_now(*disk_, 0, disk_->size_bytes()).value());
    const auto done = fakes::finish(qcow2::create_snapshot(disk_->metadata(), snapshot.name));
    ASSERT_TRUE(done) << done.error().message();
    snapshot.made_at = now();
  }

  Snapshot& any_snapshot() { return snapshots_[random_() % snapshots_.size()]; }

  void apply_snapshot() {
    const Snapshot& snapshot = any_snapshot();
    if (snapshot.dying_at != kNever || snapshot.known_until != kNever) return;
    change_content(snapshot.content->size(), snapshot.content, [&] {
      return fakes::finish(qcow2::apply_snapshot(disk_->metadata(), snapshot.name));
    });
  }

  void delete_snapshot() {
    Snapshot& snapshot = any_snapshot();
    if (snapshot.dying_at != kNever) return;
    snapshot.dying_at = now();
    const auto done = fakes::finish(qcow2::delete_snapshot(disk_->metadata(), snapshot.name));
    ASSERT_TRUE(done) << done.error().message();
  }

  void forget_contents() {
    for (Snapshot& snapshot : snapshots_)
      snapshot.known_until = std::min(snapshot.known_until, now());
  }

  void commit() {
    forget_contents();
    ASSERT_TRUE(fakes::finish(disk_->flush()));
    history_.end_flush(history_.begin_flush(), now());
    const auto done = commit_image(store_, *disk_);
    ASSERT_TRUE(done) << done.error().message();
  }

  void rebase() {
    forget_contents();
    const auto done = rebase_image(store_, folder_, disk_);
    ASSERT_TRUE(done) << done.error().message();
  }

  fakes::MemoryStore& store_;
  ImageFolder& folder_;
  std::unique_ptr<Qcow2>& disk_;
  SectorHistory& history_;
  std::mt19937_64 random_;
  uint64_t next_;            // the next kind of change; in turn, so that few are enough for all
  std::vector<Size> sizes_;  // the oldest first
  std::vector<Snapshot> snapshots_;
  int snapshot_number_ = 0;
};

}  // namespace wick::block
