// Making, applying and deleting the internal snapshots of a qcow2 disk. A snapshot
// is a second L1 table over the same L2 tables and data, all of which are counted
// once more. The order: the host's space, then counts, then tables, then the header,
// so that whatever it leads to is counted, and a full disk is found before anything
// changed; freeing comes after, so that a crash leaves leaks at most.
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>

#include "base/bytes.h"
#include "block/qcow2/announced_size.h"
#include "block/qcow2/header.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/references.h"

namespace wick::block {

using namespace qcow2;

namespace {

constexpr size_t kMaxNameBytes = 255;

template <typename Snapshots>
auto find_snapshot(Snapshots& snapshots, const std::string& name) {
  auto found = std::ranges::find(snapshots, name, &Snapshot::id);
  if (found == snapshots.end()) found = std::ranges::find(snapshots, name, &Snapshot::name);
  return found;
}

std::unexpected<Error> no_snapshot(const std::string& path, const std::string& name) {
  return with_hint(fail("{}: has no snapshot {}", path, name), "see wick image snapshot -l");
}

uint64_t next_id(const std::vector<Snapshot>& snapshots) {
  uint64_t most = 0;
  for (const Snapshot& snapshot : snapshots) {
    uint64_t id = 0;
    std::from_chars(snapshot.id.data(), snapshot.id.data() + snapshot.id.size(), id);
    most = std::max(most, id);
  }
  return most + 1;
}

}  // namespace

Task<Result<std::vector<Snapshot>>> Qcow2::snapshots() {
  auto table = co_await read_snapshots(*file_, header_);
  if (!table) co_return failure(table);
  co_return std::move(table->snapshots);
}

Task<Result<void>> Qcow2::count_run(Run clusters, Count count) {
  switch (count) {
    case Count::kCheck:
      if (auto room = co_await refcounts_.reserve(clusters); !room) co_return room;
      for (uint64_t i = 0; i < clusters.count; ++i) {
        const auto counted = co_await refcounts_.get(clusters.first + i);
        if (!counted) co_return std::unexpected(counted.error());
        if (*counted == 0)
          co_return corrupt("a cluster that is in use, but not counted, at",
                            (clusters.first + i) << header_.cluster_bits);
        if (*counted == header_.max_refcount())
          co_return with_hint(
              fail("{}: its reference counts of {} bits are too small for one more snapshot",
                   path(), header_.refcount_bits()),
              "copy it: wick image convert -O qcow2 -o refcount_bits=16");
      }
      break;
    case Count::kAdd:
      if (auto done = co_await refcounts_.increment(clusters); !done) co_return done;
      if (refcounts_.crowded()) co_return co_await checkpoint(false);
      break;
    case Count::kFree:
      decompressed_.clear();
      frees_.push_back({clusters, true});
      if (frees_.size() > 4096) co_return co_await apply_frees();
      break;
  }
  co_return Result<void>();
}

// Of all that an L1 table leads to. What is in memory was written before.
Task<Result<void>> Qcow2::count_tree(const std::vector<uint64_t>& l1, Count count) {
  const uint64_t step = header_.l2_entry_bytes() / 8;
  for (const uint64_t entry : l1) {
    const uint64_t l2 = entry & kOffsetMask;
    if (l2 == 0) continue;
    if (l2 % header_.cluster_bytes() != 0 || l2 >= file_->size_bytes())
      co_return corrupt("an L2 table where none can be, L1 entry", entry);
    const auto entries = co_await read_table(*file_, l2, header_.cluster_bytes() / 8);
    if (!entries) co_return std::unexpected(entries.error());
    if (count == Count::kCheck)  // for the copied flags
      if (auto room = co_await file_->reserve(l2, header_.cluster_bytes()); !room) co_return room;
    Run run{cluster_of(l2), 1};
    for (uint64_t i = 0; i < entries->size(); i += step) {
      const L2Finding found =
          examine_l2_entry(header_, (*entries)[i], step > 1 ? (*entries)[i + 1] : 0);
      if (found.wrong != nullptr) co_return corrupt(found.wrong, (*entries)[i]);
      if (found.length_bytes == 0) continue;
      const uint64_t first = cluster_of(found.offset);
      const uint64_t clusters = cluster_of(found.offset + found.length_bytes - 1) - first + 1;
      if (first == run.first + run.count) {
        run.count += clusters;
        continue;
      }
      if (auto done = co_await count_run(run, count); !done) co_return done;
      run = {first, clusters};
    }
    if (auto done = co_await count_run(run, count); !done) co_return done;
  }
  co_return Result<void>();
}

// Of the disk's tables: to be written in place is what is counted once.
Task<Result<void>> Qcow2::set_copied_flags() {
  const auto flagged = [this](uint64_t entry) -> Task<Result<uint64_t>> {
    const auto count = co_await refcounts_.get(cluster_of(entry & kOffsetMask));
    if (!count) co_return std::unexpected(count.error());
    co_return *count == 1 ? entry | kCopied : entry & ~kCopied;
  };
  for (size_t index = 0; index < l1_.size(); ++index) {
    const uint64_t table = l1_[index] & kOffsetMask;
    if (table == 0) continue;
    const auto l1_entry = co_await flagged(l1_[index]);
    if (!l1_entry) co_return std::unexpected(l1_entry.error());
    if (*l1_entry != l1_[index]) dirty_l1_.insert(index);
    l1_[index] = *l1_entry;
    for (uint64_t at = 0; at < header_.cluster_bytes(); at += header_.l2_entry_bytes()) {
      const auto slice = co_await l2_.get(table + at);
      if (!slice) co_return std::unexpected(slice.error());
      const auto place = slice->subspan((table + at) % l2_.slice_bytes(), 8);
      const auto entry = load_be<uint64_t>(place);
      if ((entry & kCompressed) != 0 || (entry & kOffsetMask) == 0) continue;
      const auto now = co_await flagged(entry);
      if (!now) co_return std::unexpected(now.error());
      if (*now == entry) continue;
      const auto again = co_await l2_.get_for_change(table + at);
      if (!again) co_return std::unexpected(again.error());
      store_be(again->subspan((table + at) % l2_.slice_bytes()), *now);
      l2_.mark_dirty(table + at);
    }
    if (l2_.crowded())
      if (auto done = co_await checkpoint(false); !done) co_return done;
  }
  co_return co_await checkpoint(true);
}

// Clusters for the table of these snapshots; 0: it needs none.
Task<Result<uint64_t>> Qcow2::allocate_snapshots(const std::vector<Snapshot>& snapshots) {
  const uint64_t bytes = format_snapshots(snapshots).size();
  if (bytes == 0) co_return uint64_t{0};
  co_return co_await refcounts_.allocate_table(header_.clusters_for(bytes));
}

// `first`: what allocate_snapshots() returned for them.
Task<Result<void>> Qcow2::write_snapshots(const std::vector<Snapshot>& snapshots, uint64_t first) {
  const std::vector<std::byte> bytes = format_snapshots(snapshots);
  const auto old = co_await read_snapshots(*file_, header_);
  if (!old) co_return std::unexpected(old.error());
  const Run old_run{cluster_of(header_.snapshots_offset), header_.clusters_for(old->length_bytes)};
  const uint64_t offset = first << header_.cluster_bits;
  if (!bytes.empty()) {
    if (auto done = co_await checkpoint(true); !done) co_return done;
    const iovec buffer = to_iovec(bytes);
    auto written = co_await file_->write(offset, {&buffer, 1});
    if (written) written = co_await file_->sync();
    if (!written) co_return written;
  }
  std::array<std::byte, 12> fields{};  // "Header", bytes 60 to 71
  store_be(std::span(fields), static_cast<uint32_t>(snapshots.size()));
  store_be(std::span(fields).subspan(4), offset);
  const iovec field{fields.data(), fields.size()};
  auto written = co_await file_->write(60, {&field, 1});
  if (written) written = co_await file_->sync();
  if (!written) co_return written;
  header_.snapshot_count = static_cast<uint32_t>(snapshots.size());
  header_.snapshots_offset = offset;
  if (old_run.count > 0) frees_.push_back({old_run, false});
  co_return co_await apply_frees();
}

Task<Result<void>> Qcow2::create_snapshot(const std::string& name) {
  if (options_.read_only) co_return fail_errno(EROFS, "{}", path());
  if (data_file_)
    co_return fail("{}: its data is in another file, so it can have no snapshots", path());
  if (name.empty() || name.size() > kMaxNameBytes)
    co_return fail("{}: the name of a snapshot has 1 to {} bytes", path(), kMaxNameBytes);
  auto all = co_await snapshots();
  if (!all) co_return failure(all);
  if (all->size() >= kMaxSnapshots)
    co_return fail("{}: has {} snapshots, the most that it can", path(), kMaxSnapshots);
  if (!writing_)
    if (auto begun = co_await begin_writing(); !begun) co_return begun;
  if (auto done = co_await checkpoint(true); !done) co_return done;
  if (auto done = co_await count_tree(l1_, Count::kCheck); !done) co_return done;

  Snapshot snapshot;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  snapshot.id = fmt::to_string(next_id(*all));
  snapshot.name = name;
  snapshot.date_s =
      static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count());
  snapshot.date_ns = static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() % 1'000'000'000);
  snapshot.disk_bytes = header_.size_bytes;
  snapshot.icount = 0;
  snapshot.l1_entries = header_.l1_entries;
  const Run table{0, header_.clusters_for(l1_.size() * 8)};
  if (table.count > 0) {
    const auto first = co_await refcounts_.allocate_table(table.count);
    if (!first) co_return std::unexpected(first.error());
    snapshot.l1_offset = *first << header_.cluster_bits;
  }
  const uint64_t l1_offset = snapshot.l1_offset;
  all->push_back(std::move(snapshot));
  const auto place = co_await allocate_snapshots(*all);
  if (!place) {
    if (auto freed = co_await refcounts_.decrement({cluster_of(l1_offset), table.count}); !freed)
      co_return freed;
    co_return std::unexpected(place.error());
  }
  if (auto done = co_await count_tree(l1_, Count::kAdd); !done) co_return done;
  if (auto done = co_await set_copied_flags(); !done) co_return done;
  if (!l1_.empty()) {
    std::vector<std::byte> bytes(l1_.size() * 8);
    for (size_t i = 0; i < l1_.size(); ++i) store_be(std::span(bytes).subspan(i * 8), l1_[i]);
    const iovec buffer = to_iovec(bytes);
    auto written = co_await file_->write(l1_offset, {&buffer, 1});
    if (!written) co_return written;
  }
  co_return co_await write_snapshots(*all, *place);
}

Task<Result<void>> Qcow2::apply_snapshot(const std::string& name) {
  if (options_.read_only) co_return fail_errno(EROFS, "{}", path());
  auto all = co_await snapshots();
  if (!all) co_return failure(all);
  const auto found = find_snapshot(*all, name);
  if (found == all->end()) co_return no_snapshot(path(), name);
  if (!found->has_possible_l1(header_) || found->disk_bytes > kMaxDiskBytes ||
      found->l1_entries < header_.l1_entries_for(found->disk_bytes) ||
      found->l1_offset > file_->size_bytes())
    co_return corrupt("a snapshot's L1 table at", found->l1_offset);
  if (!writing_)
    if (auto begun = co_await begin_writing(); !begun) co_return begun;
  if (auto done = co_await checkpoint(true); !done) co_return done;
  auto l1 = co_await read_table(*file_, found->l1_offset, found->l1_entries);
  if (!l1) co_return failure(l1);
  for (uint64_t& entry : *l1) entry &= kOffsetMask;
  if (auto done = co_await count_tree(*l1, Count::kCheck); !done) co_return done;
  const auto first = co_await allocate_l1(found->disk_bytes, found->l1_entries);
  if (!first) co_return std::unexpected(first.error());
  if (auto done = co_await count_tree(*l1, Count::kAdd); !done) co_return done;
  const std::vector<uint64_t> old = l1_;
  {
    const auto held = co_await metadata_.exclusive(0, 0);
    // As in resize(): the disk may once have its old size again.
    if (auto done = co_await clear_announced_size(*file_, header_); !done) co_return done;
    l1->resize(std::max<size_t>(l1->size(), 1));
    auto done = co_await switch_l1(found->disk_bytes, *first, *std::move(l1));
    if (!done) co_return done;
  }
  decompressed_.clear();
  if (auto done = co_await count_tree(old, Count::kFree); !done) co_return done;
  if (auto done = co_await apply_frees(); !done) co_return done;
  co_return co_await set_copied_flags();
}

Task<Result<void>> Qcow2::show_snapshot(const std::string& name) {
  if (!options_.read_only) co_return fail_errno(EINVAL, "{}", path());
  const auto all = co_await snapshots();
  if (!all) co_return std::unexpected(all.error());
  const auto found = find_snapshot(*all, name);
  if (found == all->end()) co_return no_snapshot(path(), name);
  if (!found->has_possible_l1(header_) || found->disk_bytes > kMaxDiskBytes ||
      found->l1_entries < header_.l1_entries_for(found->disk_bytes) ||
      found->l1_offset > file_->size_bytes())
    co_return corrupt("a snapshot's L1 table at", found->l1_offset);
  auto l1 = co_await read_table(*file_, found->l1_offset, found->l1_entries);
  if (!l1) co_return failure(l1);
  l1_ = *std::move(l1);
  header_.l1_offset = found->l1_offset;
  header_.l1_entries = found->l1_entries;
  header_.size_bytes = found->disk_bytes;
  co_return Result<void>();
}

Task<Result<void>> Qcow2::delete_snapshot(const std::string& name) {
  if (options_.read_only) co_return fail_errno(EROFS, "{}", path());
  auto all = co_await snapshots();
  if (!all) co_return failure(all);
  const auto found = find_snapshot(*all, name);
  if (found == all->end()) co_return no_snapshot(path(), name);
  if (!found->has_possible_l1(header_) || found->l1_offset > file_->size_bytes())
    co_return corrupt("a snapshot's L1 table at", found->l1_offset);
  if (!writing_)
    if (auto begun = co_await begin_writing(); !begun) co_return begun;
  if (auto done = co_await checkpoint(true); !done) co_return done;
  const auto l1 = co_await read_table(*file_, found->l1_offset, found->l1_entries);
  if (!l1) co_return std::unexpected(l1.error());
  const Run table{cluster_of(found->l1_offset),
                  header_.clusters_for(uint64_t{found->l1_entries} * 8)};
  all->erase(found);
  const auto place = co_await allocate_snapshots(*all);
  if (!place) co_return std::unexpected(place.error());
  if (auto done = co_await write_snapshots(*all, *place); !done) co_return done;
  if (auto done = co_await count_tree(*l1, Count::kFree); !done) co_return done;
  if (table.count > 0) frees_.push_back({table, false});
  if (auto done = co_await apply_frees(); !done) co_return done;
  co_return co_await set_copied_flags();
}

}  // namespace wick::block
