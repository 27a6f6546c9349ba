// Checkpoints: they write the changed metadata to the file, and then free what is unused.
#include <algorithm>

#include "base/bytes.h"
#include "block/qcow2/metadata.h"
#include "block/qcow2/references.h"

namespace wick::block::qcow2 {

namespace {

constexpr size_t kMaxReleases = 4096;

}  // namespace

// The changes that one checkpoint writes. Each step writes all that it can. An entry waits for the
// next checkpoint if the table or the refcount that it needs could not be written.
class Metadata::Checkpoint {
 public:
  explicit Checkpoint(Metadata& of)
      : of_(of),
        counts_(of.refcounts_.take_dirty()),
        tables_(of.l2_.take_dirty()),
        l1_(std::exchange(of.dirty_l1_, {})),
        unmapped_(std::exchange(of.unmapped_, {})),
        unmapped_clusters_(std::exchange(of.unmapped_clusters_, 0)) {}

  // Stops after a failed sync, because all later syncs fail, too.
  Task<Result<void>> write(bool stable) {
    const bool new_blocks = !counts_.table_entries.empty();
    const bool new_tables = !tables_.empty();
    const bool maps = new_tables || !l1_.empty();
    keep_first_error(co_await of_.refcounts_.write_blocks(counts_));
    if (maps || new_blocks)
      if (auto synced = co_await sync(); !synced) co_return synced;
    if (new_blocks) {
      keep_first_error(co_await of_.refcounts_.write_table(counts_));
      if (maps)
        if (auto synced = co_await sync(); !synced) co_return synced;
    }
    if (!result_)
      for (TableCache::Copy& copy : tables_) copy.failed = maps_uncounted(copy);
    keep_first_error(co_await of_.l2_.write(tables_));
    if (new_tables && !l1_.empty())
      if (auto synced = co_await sync(); !synced) co_return synced;
    co_await write_l1_entries();
    if (stable || !unmapped_.empty())
      if (auto synced = co_await sync(); !synced) co_return synced;
    co_return result_;
  }

  // Marks the changes that were not written as dirty again.
  void end(bool succeeded) {
    of_.refcounts_.written(counts_);
    of_.l2_.written(tables_);
    of_.dirty_l1_.insert(l1_.begin(), l1_.end());
    if (!succeeded) of_.unmapped_clusters_ += unmapped_clusters_;
    std::vector<Free>& to = succeeded ? of_.frees_ : of_.unmapped_;
    to.insert(succeeded ? to.end() : to.begin(), unmapped_.begin(), unmapped_.end());
  }

 private:
  void keep_first_error(Result<void> done) {
    if (result_) result_ = std::move(done);
  }

  Task<Result<void>> sync() {
    Result<void> synced;
    if (of_.data_file_ != nullptr) synced = co_await of_.data_file_->sync();
    if (synced) synced = co_await of_.file_.sync();
    if (!synced)
      for (auto* copies : {&tables_, &counts_.blocks})
        for (TableCache::Copy& copy : *copies) copy.failed = true;
    co_return synced;
  }

  // Returns whether one of these L2 entries leads to a cluster whose count is not in the file.
  bool maps_uncounted(const TableCache::Copy& entries) const {
    const Header& header = of_.header_;
    const std::span bytes(entries.bytes);
    for (uint64_t at = 0; at < bytes.size(); at += header.l2_entry_bytes()) {
      const L2Finding found =
          examine_l2_entry(header, load_be<uint64_t>(bytes.subspan(at)),
                           header.extended_l2() ? load_be<uint64_t>(bytes.subspan(at + 8)) : 0);
      const ClusterRun clusters = header.clusters_of(found.offset, found.length_bytes);
      for (uint64_t cluster = clusters.first; cluster < clusters.end(); ++cluster)
        if (of_.refcounts_.lacks_count(counts_, cluster)) return true;
    }
    return false;
  }

  // Returns whether an L1 entry may point to the table: the table and its count are in the file.
  bool can_be_named(uint64_t table) const {
    if (result_ || table == 0) return true;
    return !of_.refcounts_.lacks_count(counts_, of_.header_.cluster_of(table)) &&
           std::ranges::none_of(tables_, [&](const TableCache::Copy& copy) {
             return copy.failed && copy.overlaps(table, of_.header_.cluster_bytes());
           });
  }

  Task<void> write_l1_entries() {
    for (auto index = l1_.begin(); index != l1_.end();) {
      bool written = false;
      if (can_be_named(of_.l1_[*index] & kOffsetMask)) {
        const std::span<const uint64_t> entry(&of_.l1_[*index], 1);
        auto done = co_await write_table(of_.file_, of_.header_.l1_offset + *index * 8, entry);
        written = done.has_value();
        keep_first_error(std::move(done));
      }
      index = written ? l1_.erase(index) : std::next(index);
    }
  }

  Metadata& of_;
  Refcounts::Copies counts_;
  std::vector<TableCache::Copy> tables_;
  std::set<uint64_t> l1_;  // indices of changed entries
  std::vector<Free> unmapped_;
  uint64_t unmapped_clusters_;
  Result<void> result_;  // the first error
};

Task<Result<void>> Metadata::checkpoint(bool stable) {
  const auto held = co_await lock();
  co_return co_await checkpoint_locked(stable);
}

Task<Result<void>> Metadata::checkpoint_locked(bool stable) {
  // Writes to a table would be lost if the header in the file names another one.
  if (auto restored = co_await restore_header_locked(); !restored) co_return restored;
  Checkpoint checkpoint(*this);
  auto done = co_await checkpoint.write(stable);
  checkpoint.end(done.has_value());
  if (!done) co_return done;
  co_return co_await apply_frees();
}

// If the host has no space for a checkpoint, the next flush reports the error. This function
// reports the error only if memory would grow otherwise.
Task<Result<void>> Metadata::checkpoint_when_due() {
  if (!l2_.needs_checkpoint() && !refcounts_.needs_checkpoint() && !should_free())
    co_return Result<void>();
  auto done = co_await checkpoint(false);
  const bool bounded =
      !l2_.needs_checkpoint() && !refcounts_.needs_checkpoint() && unmapped_.size() <= kMaxReleases;
  if (!done && bounded && (done.error().code == ENOSPC || done.error().code == EDQUOT))
    co_return Result<void>();
  co_return done;
}

// Returns whether the pending frees are large enough to force a checkpoint.
bool Metadata::should_free() const {
  return unmapped_.size() > kMaxReleases || unmapped_clusters_ * 32 > refcounts_.first_fresh();
}

void Metadata::release(L2Entry entry, bool punch) {
  if (data_file_ != nullptr) return;
  if ((entry.descriptor & kCompressed) != 0) {
    const CompressedRange range = compressed_range(header_, entry.descriptor);
    release_clusters(header_.clusters_of(range.offset, range.length_bytes), punch);
    ++compressed_generation_;
    compressed_end_ = 0;  // the last compressed cluster may end in one of these
  } else if (const uint64_t host = entry.descriptor & kOffsetMask; host != 0) {
    release_clusters({header_.cluster_of(host), 1}, punch);
  }
}

void Metadata::release_clusters(ClusterRun clusters, bool punch) {
  unmapped_clusters_ += clusters.count;
  if (!unmapped_.empty() && unmapped_.back().punch == punch &&
      unmapped_.back().clusters.end() == clusters.first)
    unmapped_.back().clusters.count += clusters.count;
  else
    unmapped_.push_back({clusters, punch});
}

Task<Result<void>> Metadata::free_clusters(ClusterRun clusters, bool punch) {
  ++compressed_generation_;
  if (clusters.count > 0) frees_.push_back({clusters, punch});
  if (frees_.size() > kMaxReleases) co_return co_await apply_frees();
  co_return Result<void>();
}

// A cluster may be allocated again only after its hole is made (PITFALLS 4). An error here
// leaks clusters, and does nothing worse.
Task<Result<void>> Metadata::apply_frees() {
  std::vector<Free> frees;
  for (const Free& free : std::exchange(frees_, {})) {
    if (is_table(header_, free.clusters)) continue;  // a damaged image's entries may lead there
    if (auto room = co_await refcounts_.reserve(free.clusters); !room)
      frees_.push_back(free);  // kept until the host has space for the counts
    else
      frees.push_back(free);
  }
  // Neighbouring clusters get one hole together, because each hole takes the host long.
  std::ranges::stable_sort(frees, {}, [](const Free& free) { return free.clusters.first; });
  const auto may_punch = [this](const Free& free) -> Task<bool> {
    bool alone = free.punch && file_.can_discard();
    for (uint64_t i = free.clusters.first; alone && i < free.clusters.end(); ++i) {
      const auto count = co_await refcounts_.get(i);
      alone = count && *count == 1;
    }
    co_return alone;
  };
  Result<void> result;
  for (size_t at = 0; at < frees.size();) {
    ClusterRun run = frees[at].clusters;
    const bool punch = co_await may_punch(frees[at]);
    for (++at; punch && at < frees.size() && frees[at].clusters.first == run.end(); ++at) {
      if (!co_await may_punch(frees[at])) break;
      run.count += frees[at].clusters.count;
    }
    if (punch)
      co_await file_.discard(run.first << header_.cluster_bits, run.count << header_.cluster_bits);
    for (uint64_t i = run.first; i < run.end(); ++i) {
      auto freed = co_await refcounts_.decrement({i, 1});
      if (!freed && result) result = std::move(freed);
    }
  }
  if (frees.empty()) co_return result;
  // No sync follows: a crash before these counts are stable only leaks the clusters.
  auto counts = refcounts_.take_dirty();
  auto written = co_await refcounts_.write_blocks(counts);
  refcounts_.written(counts);
  if (result) result = std::move(written);
  co_return result;
}

}  // namespace wick::block::qcow2
