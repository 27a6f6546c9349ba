#include "block/qcow2/snapshot_commands.h"

#include <algorithm>
#include <charconv>
#include <chrono>

#include "base/bytes.h"
#include "block/qcow2/announced_size.h"
#include "block/qcow2/references.h"

namespace wick::block::qcow2 {

namespace {

constexpr size_t kMaxNameBytes = 255;

uint64_t next_id(const std::vector<Snapshot>& snapshots) {
  uint64_t most = 0;
  for (const Snapshot& snapshot : snapshots) {
    uint64_t id = 0;
    std::from_chars(snapshot.id.data(), snapshot.id.data() + snapshot.id.size(), id);
    most = std::max(most, id);
  }
  return most + 1;
}

Result<size_t> find_snapshot(const Metadata& metadata, const std::vector<Snapshot>& all,
                             const std::string& name) {
  auto found = std::ranges::find(all, name, &Snapshot::id);
  if (found == all.end()) found = std::ranges::find(all, name, &Snapshot::name);
  if (found != all.end()) return static_cast<size_t>(found - all.begin());
  return with_hint(fail("{}: has no snapshot {}", metadata.path(), name),
                   "see wick image snapshot -l");
}

// Checks that the snapshot's L1 table can be read and, with `to_use`, can become the disk's
// table.
Result<void> check_l1(const Metadata& metadata, const Snapshot& snapshot, bool to_use) {
  const Header& header = metadata.header();
  const bool readable =
      snapshot.has_possible_l1(header) && snapshot.l1_offset <= metadata.file().size_bytes();
  const bool usable = snapshot.disk_bytes <= kMaxDiskBytes &&
                      snapshot.l1_entries >= header.l1_entries_for(snapshot.disk_bytes);
  if (readable && (usable || !to_use)) return {};
  return metadata.corrupt("a snapshot's L1 table at", snapshot.l1_offset);
}

// What count_tree() does with each L2 table and data cluster below an L1 table.
enum class Count {
  kCheck,  // fails if a refcount is at its maximum; reserves host space for the new counts
  kAdd,
  kFree,
};

Task<Result<void>> check_run(Metadata& metadata, ClusterRun clusters) {
  Refcounts& refcounts = metadata.refcounts();
  const Header& header = metadata.header();
  if (auto room = co_await refcounts.reserve(clusters); !room) co_return room;
  for (uint64_t cluster = clusters.first; cluster < clusters.end(); ++cluster) {
    const auto counted = co_await refcounts.get(cluster);
    if (!counted) co_return std::unexpected(counted.error());
    if (*counted == 0)
      co_return metadata.corrupt("a cluster that is in use, but not counted, at",
                                 cluster << header.cluster_bits);
    if (*counted == header.max_refcount())
      co_return with_hint(
          fail("{}: its reference counts of {} bits are too small for one more snapshot",
               metadata.path(), header.refcount_bits()),
          "copy it: wick image convert -O qcow2 -o refcount_bits=16");
  }
  co_return Result<void>();
}

Task<Result<void>> count_run(Metadata& metadata, ClusterRun clusters, Count count) {
  if (count == Count::kCheck) co_return co_await check_run(metadata, clusters);
  if (count == Count::kFree) co_return co_await metadata.free_clusters(clusters, true);
  auto added = co_await metadata.refcounts().increment(clusters);
  if (added && metadata.refcounts().needs_checkpoint())
    co_return co_await metadata.checkpoint(false);
  co_return added;
}

// Checks, increments or frees (see Count) the refcounts of an L2 table's cluster and of the
// clusters that it maps. Reads the table from the file, so a checkpoint must have written it
// before.
Task<Result<void>> count_l2_table(Metadata& metadata, uint64_t l2, Count count) {
  const Header& header = metadata.header();
  const auto entries = co_await read_table(metadata.file(), l2, header.cluster_bytes() / 8);
  if (!entries) co_return std::unexpected(entries.error());
  if (count == Count::kCheck) {  // its copied flags will be changed
    auto room = co_await metadata.file().reserve(l2, header.cluster_bytes());
    if (!room) co_return room;
  }
  ClusterRun run{header.cluster_of(l2), 1};
  const uint64_t step = header.l2_entry_bytes() / 8;
  for (uint64_t i = 0; i < entries->size(); i += step) {
    const L2Finding found =
        examine_l2_entry(header, (*entries)[i], step > 1 ? (*entries)[i + 1] : 0);
    if (found.wrong != nullptr) co_return metadata.corrupt(found.wrong, (*entries)[i]);
    if (found.length_bytes == 0) continue;
    const ClusterRun next = header.clusters_of(found.offset, found.length_bytes);
    if (next.first == run.end()) {
      run.count += next.count;
      continue;
    }
    if (auto done = co_await count_run(metadata, run, count); !done) co_return done;
    run = next;
  }
  co_return co_await count_run(metadata, run, count);
}

Task<Result<void>> count_tree(Metadata& metadata, const std::vector<uint64_t>& l1, Count count) {
  for (const uint64_t entry : l1) {
    const uint64_t l2 = entry & kOffsetMask;
    if (l2 == 0) continue;
    if (l2 % metadata.header().cluster_bytes() != 0 || l2 >= metadata.file().size_bytes())
      co_return metadata.corrupt("an L2 table at an impossible place, L1 entry", entry);
    if (auto done = co_await count_l2_table(metadata, l2, count); !done) co_return done;
  }
  co_return Result<void>();
}

// Returns the L1 or L2 entry with the correct COPIED flag: set if the refcount is 1, so that the
// cluster may be written in place.
Task<Result<uint64_t>> flagged(Metadata& metadata, uint64_t entry) {
  const auto count =
      co_await metadata.refcounts().get(metadata.header().cluster_of(entry & kOffsetMask));
  if (!count) co_return std::unexpected(count.error());
  co_return *count == 1 ? entry | kCopied : entry & ~kCopied;
}

Task<Result<void>> set_flags_of_l2_table(Metadata& metadata, uint64_t table) {
  TableCache& tables = metadata.l2_tables();
  const Header& header = metadata.header();
  for (uint64_t at = table; at < table + header.cluster_bytes(); at += header.l2_entry_bytes()) {
    const auto slice = co_await tables.get(at);
    if (!slice) co_return std::unexpected(slice.error());
    const auto entry = load_be<uint64_t>(slice->subspan(at % tables.slice_bytes(), 8));
    if ((entry & kCompressed) != 0 || (entry & kOffsetMask) == 0) continue;
    const auto now = co_await flagged(metadata, entry);
    if (!now) co_return std::unexpected(now.error());
    if (*now == entry) continue;
    const auto again = co_await tables.get_for_change(at);
    if (!again) co_return std::unexpected(again.error());
    store_be(again->subspan(at % tables.slice_bytes()), *now);
    tables.mark_dirty(at);
  }
  co_return Result<void>();
}

// Sets the COPIED flag of each entry of the disk's L1 and L2 tables according to the refcounts.
Task<Result<void>> set_copied_flags(Metadata& metadata) {
  for (size_t index = 0; index < metadata.l1().size(); ++index) {
    const uint64_t entry = metadata.l1()[index];
    if ((entry & kOffsetMask) == 0) continue;
    const auto now = co_await flagged(metadata, entry);
    if (!now) co_return std::unexpected(now.error());
    if (*now != entry) metadata.set_l1_entry(index, *now);
    auto done = co_await set_flags_of_l2_table(metadata, entry & kOffsetMask);
    if (done && metadata.l2_tables().needs_checkpoint()) done = co_await metadata.checkpoint(false);
    if (!done) co_return done;
  }
  co_return co_await metadata.checkpoint(true);
}

// Returns the first cluster for a table of these snapshots; 0 if it needs none.
Task<Result<uint64_t>> allocate_snapshots(Metadata& metadata,
                                          const std::vector<Snapshot>& snapshots) {
  const uint64_t bytes = format_snapshots(snapshots).size();
  if (bytes == 0) co_return uint64_t{0};
  co_return co_await metadata.refcounts().allocate_table(metadata.header().clusters_for(bytes));
}

// Writes the table to the clusters that allocate_snapshots() returned, and frees the old one.
Task<Result<void>> write_snapshots(Metadata& metadata, const std::vector<Snapshot>& snapshots,
                                   uint64_t first) {
  const Header& header = metadata.header();
  const std::vector<std::byte> bytes = format_snapshots(snapshots);
  const auto old = co_await read_snapshots(metadata.file(), header);
  if (!old) co_return std::unexpected(old.error());
  const ClusterRun old_run = header.clusters_of(header.snapshots_offset, old->length_bytes);
  const uint64_t offset = first << header.cluster_bits;
  if (!bytes.empty()) {
    if (auto done = co_await metadata.checkpoint(true); !done) co_return done;
    auto written = co_await write_bytes(metadata.file(), offset, bytes);
    if (written) written = co_await metadata.file().sync();
    if (!written) co_return written;
  }
  auto done =
      co_await metadata.write_snapshot_fields(static_cast<uint32_t>(snapshots.size()), offset);
  if (done) done = co_await metadata.free_clusters(old_run, false);
  if (done) done = co_await metadata.apply_frees();
  co_return done;
}

// Makes a new snapshot of the disk. The caller sets the place of its L1 table.
Snapshot snapshot_of(const Metadata& metadata, const std::string& name,
                     const std::vector<Snapshot>& others) {
  Snapshot snapshot;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  snapshot.id = fmt::to_string(next_id(others));
  snapshot.name = name;
  snapshot.date_s =
      static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count());
  snapshot.date_ns = static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() % 1'000'000'000);
  snapshot.disk_bytes = metadata.header().size_bytes;
  snapshot.icount = 0;
  snapshot.l1_entries = metadata.header().l1_entries;
  return snapshot;
}

// Starts a command that changes snapshots: writes the metadata that is dirty in memory.
Task<Result<void>> begin_command(Metadata& metadata) {
  if (auto begun = co_await metadata.begin_writing(); !begun) co_return begun;
  co_return co_await metadata.checkpoint(true);
}

}  // namespace

Task<Result<std::vector<Snapshot>>> list_snapshots(const Metadata& metadata) {
  auto table = co_await read_snapshots(metadata.file(), metadata.header());
  if (!table) co_return failure(table);
  co_return std::move(table->snapshots);
}

Task<Result<void>> create_snapshot(Metadata& metadata, const std::string& name) {
  const std::string& path = metadata.path();
  if (metadata.read_only()) co_return fail_errno(EROFS, "{}", path);
  if (metadata.data_file() != nullptr)
    co_return fail("{}: its data is in another file, so it can have no snapshots", path);
  if (name.empty() || name.size() > kMaxNameBytes)
    co_return fail("{}: the name of a snapshot has 1 to {} bytes", path, kMaxNameBytes);
  auto all = co_await list_snapshots(metadata);
  if (!all) co_return failure(all);
  if (all->size() >= kMaxSnapshots)
    co_return fail("{}: has {} snapshots, and cannot have more", path, kMaxSnapshots);
  if (auto begun = co_await begin_command(metadata); !begun) co_return begun;
  const std::vector<uint64_t>& l1 = metadata.l1();
  if (auto done = co_await count_tree(metadata, l1, Count::kCheck); !done) co_return done;

  Snapshot snapshot = snapshot_of(metadata, name, *all);
  ClusterRun table{0, metadata.header().clusters_for(l1.size() * 8)};
  if (table.count > 0) {
    const auto first = co_await metadata.refcounts().allocate_table(table.count);
    if (!first) co_return std::unexpected(first.error());
    table.first = *first;
  }
  snapshot.l1_offset = table.first << metadata.header().cluster_bits;
  const uint64_t l1_offset = snapshot.l1_offset;
  all->push_back(std::move(snapshot));
  const auto place = co_await allocate_snapshots(metadata, *all);
  if (!place) {
    auto freed = co_await metadata.refcounts().decrement(table);
    if (!freed) co_return freed;
    co_return std::unexpected(place.error());
  }
  if (auto done = co_await count_tree(metadata, l1, Count::kAdd); !done) co_return done;
  if (auto done = co_await set_copied_flags(metadata); !done) co_return done;
  if (!l1.empty())
    if (auto done = co_await write_table(metadata.file(), l1_offset, l1); !done) co_return done;
  co_return co_await write_snapshots(metadata, *all, *place);
}

Task<Result<void>> apply_snapshot(Metadata& metadata, const std::string& name) {
  if (metadata.read_only()) co_return fail_errno(EROFS, "{}", metadata.path());
  const auto all = co_await list_snapshots(metadata);
  if (!all) co_return std::unexpected(all.error());
  const auto found = find_snapshot(metadata, *all, name);
  if (!found) co_return std::unexpected(found.error());
  const Snapshot& snapshot = (*all)[*found];
  if (auto checked = check_l1(metadata, snapshot, true); !checked) co_return checked;
  if (auto begun = co_await begin_command(metadata); !begun) co_return begun;
  auto l1 = co_await read_table(metadata.file(), snapshot.l1_offset, snapshot.l1_entries);
  if (!l1) co_return failure(l1);
  for (uint64_t& entry : *l1) entry &= kOffsetMask;
  if (auto done = co_await count_tree(metadata, *l1, Count::kCheck); !done) co_return done;
  const auto first = co_await metadata.allocate_l1_locked(snapshot.disk_bytes, snapshot.l1_entries);
  if (!first) co_return std::unexpected(first.error());
  if (auto done = co_await count_tree(metadata, *l1, Count::kAdd); !done) co_return done;
  const std::vector<uint64_t> old = metadata.l1();
  {
    const auto held = co_await metadata.lock();
    // The announced size is for the current size. It must not take effect if the disk gets the
    // current size again later.
    auto done = co_await clear_announced_size(metadata.file(), metadata.header());
    l1->resize(std::max<size_t>(l1->size(), 1));
    if (done)
      done = co_await metadata.switch_l1_locked(snapshot.disk_bytes, *first, *std::move(l1));
    if (!done) co_return done;
  }
  if (auto done = co_await count_tree(metadata, old, Count::kFree); !done) co_return done;
  if (auto done = co_await metadata.apply_frees(); !done) co_return done;
  co_return co_await set_copied_flags(metadata);
}

Task<Result<void>> delete_snapshot(Metadata& metadata, const std::string& name) {
  if (metadata.read_only()) co_return fail_errno(EROFS, "{}", metadata.path());
  auto all = co_await list_snapshots(metadata);
  if (!all) co_return failure(all);
  const auto found = find_snapshot(metadata, *all, name);
  if (!found) co_return std::unexpected(found.error());
  const Snapshot snapshot = (*all)[*found];
  if (auto checked = check_l1(metadata, snapshot, false); !checked) co_return checked;
  if (auto begun = co_await begin_command(metadata); !begun) co_return begun;
  const auto l1 = co_await read_table(metadata.file(), snapshot.l1_offset, snapshot.l1_entries);
  if (!l1) co_return std::unexpected(l1.error());
  all->erase(all->begin() + static_cast<std::ptrdiff_t>(*found));
  const auto place = co_await allocate_snapshots(metadata, *all);
  if (!place) co_return std::unexpected(place.error());
  auto done = co_await write_snapshots(metadata, *all, *place);
  if (done) done = co_await count_tree(metadata, *l1, Count::kFree);
  if (!done) co_return done;
  const ClusterRun table =
      metadata.header().clusters_of(snapshot.l1_offset, uint64_t{snapshot.l1_entries} * 8);
  done = co_await metadata.free_clusters(table, false);
  if (done) done = co_await metadata.apply_frees();
  if (done) done = co_await set_copied_flags(metadata);
  co_return done;
}

Task<Result<void>> show_snapshot(Metadata& metadata, const std::string& name) {
  if (!metadata.read_only()) co_return fail_errno(EINVAL, "{}", metadata.path());
  const auto all = co_await list_snapshots(metadata);
  if (!all) co_return std::unexpected(all.error());
  const auto found = find_snapshot(metadata, *all, name);
  if (!found) co_return std::unexpected(found.error());
  const Snapshot& snapshot = (*all)[*found];
  if (auto checked = check_l1(metadata, snapshot, true); !checked) co_return checked;
  auto l1 = co_await read_table(metadata.file(), snapshot.l1_offset, snapshot.l1_entries);
  if (!l1) co_return failure(l1);
  metadata.show_l1(snapshot.disk_bytes, snapshot.l1_offset, *std::move(l1));
  co_return Result<void>();
}

}  // namespace wick::block::qcow2
