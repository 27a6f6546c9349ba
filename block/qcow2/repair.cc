#include "block/qcow2/repair.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/bytes.h"
#include "block/qcow2/header.h"

namespace wick::block::qcow2 {

namespace {

constexpr uint64_t kCacheBytes = 1 << 20;
constexpr uint64_t kAllZero = 0xffff'ffff'0000'0000;  // bitmap of an extended L2 entry: all zeroes

// Repairs entries of L1 and L2 tables, and writes the tables that have changed.
class EntryRepair {
 public:
  EntryRepair(File& file, const Header& header, const References& found)
      : file_(file), header_(header), found_(found) {}

  // Makes impossible entries read as zeroes. Removes an L2 table with wrong entries from the L1
  // table if its cluster contains something else.
  Task<Result<void>> repair() {
    TableReader reader(file_);
    for (const References::L2Table& table : found_.l2_tables()) {
      const uint64_t offset = table.offset;
      const uint64_t cluster = offset >> header_.cluster_bits;
      auto entries = co_await reader.read(offset, header_.cluster_bytes() / 8);
      if (!entries) co_return failure(entries);
      const bool other = found_.counts().is_table(cluster);
      if (!other && !repair_l2(*entries)) continue;
      if (other || found_.counts().get(cluster) != table.users) {
        dropped_.insert(offset);
      } else if (auto done = co_await write_table(file_, offset, *entries); !done) {
        co_return done;
      }
    }
    co_return co_await change_l1([this](uint64_t entry, bool) {
      const uint64_t repaired = entry & ~kL1Reserved;
      const uint64_t l2 = repaired & kOffsetMask;
      const bool possible = found_.is_l2_table(l2) && !dropped_.contains(l2);
      return possible ? repaired : 0;
    });
  }

  // Sets the copied flag of each entry whose cluster has the count 1, and clears the other flags.
  Task<Result<void>> set_copied(const ClusterCounts& counts) {
    const auto flagged = [&](uint64_t entry, bool external) {
      const bool alone = external || counts.get((entry & kOffsetMask) >> header_.cluster_bits) == 1;
      return alone ? entry | kCopied : entry & ~kCopied;
    };
    TableReader reader(file_);
    for (const References::L2Table& table : found_.l2_tables()) {
      const uint64_t offset = table.offset;
      if (table.active == 0 || dropped_.contains(offset)) continue;
      auto entries = co_await reader.read(offset, header_.cluster_bytes() / 8);
      if (!entries) co_return failure(entries);
      bool changed = false;
      for (uint64_t i = 0; i < entries->size(); i += header_.l2_entry_bytes() / 8) {
        uint64_t& entry = (*entries)[i];
        if ((entry & kCompressed) != 0 || (entry & kOffsetMask) == 0) continue;
        const uint64_t now = flagged(entry, header_.external_data());
        changed = changed || now != entry;
        entry = now;
      }
      // A refcount above the table's users means that something else uses this cluster, too: it
      // must not be overwritten.
      if (!changed || counts.get(offset >> header_.cluster_bits) > table.users) continue;
      if (auto done = co_await write_table(file_, offset, *entries); !done) co_return done;
    }
    co_return co_await change_l1([&](uint64_t entry, bool active) {
      return active && (entry & kOffsetMask) != 0 ? flagged(entry, false) : entry;
    });
  }

 private:
  bool repair_l2(std::vector<uint64_t>& entries) const {
    bool changed = false;
    const uint64_t step = header_.l2_entry_bytes() / 8;
    for (uint64_t i = 0; i < entries.size(); i += step) {
      uint64_t descriptor = entries[i];
      uint64_t bitmap = step > 1 ? entries[i + 1] : 0;
      if (descriptor == 0 && bitmap == 0) continue;
      L2Finding found = examine_l2_entry(header_, descriptor, bitmap);
      const auto good = [&] {
        return found.wrong == nullptr && found_.in_file(found.offset, found.length_bytes);
      };
      if (good()) continue;
      descriptor &= found.compressed ? ~kCopied : ~kL2Reserved;
      found = examine_l2_entry(header_, descriptor, bitmap);
      if (!good()) {
        descriptor = step == 1 && header_.version >= 3 ? kZero : 0;
        bitmap = kAllZero;
      }
      entries[i] = descriptor;
      if (step > 1) entries[i + 1] = bitmap;
      changed = true;
    }
    return changed;
  }

  template <typename F>
  Task<Result<void>> change_l1(F change) {
    for (const References::L1Table& table : found_.l1_tables())
      for (uint64_t start = 0; start < table.entries; start += kEntriesAtOnce) {
        const uint64_t place = table.offset + start * 8;
        if (place >= file_.size_bytes()) break;
        auto part =
            co_await read_table(file_, place, std::min(kEntriesAtOnce, table.entries - start));
        if (!part) co_return failure(part);
        bool changed = false;
        for (uint64_t& entry : *part) {
          if (entry == 0) continue;
          const uint64_t repaired = change(entry, table.active);
          changed = changed || repaired != entry;
          entry = repaired;
        }
        if (!changed) continue;
        if (auto done = co_await write_table(file_, place, *part); !done) co_return done;
      }
    co_return Result<void>();
  }

  static constexpr uint64_t kEntriesAtOnce = 8192;

  File& file_;
  const Header& header_;
  const References& found_;
  std::set<uint64_t> dropped_;  // the offsets of L2 tables that were removed
};

// Corrects the refcounts in the refcount blocks that exist.
Task<Result<void>> store_counts(File& file, Header& header, const ClusterCounts& counts,
                                const std::vector<uint64_t>& table, uint64_t end, bool all) {
  Refcounts stored(file, header, table, kCacheBytes, [](ClusterRun) { return false; });
  const uint64_t per_block = header.refcounts_per_block();
  const auto write_dirty = [&]() -> Task<Result<void>> {
    auto copies = stored.take_dirty();
    auto written = co_await stored.write_blocks(copies);
    stored.written(copies);
    co_return written;
  };
  for (uint64_t cluster = 0; cluster < end;) {
    const uint64_t block = cluster / per_block;
    if (block >= table.size() || table[block] == 0) {
      cluster = (block + 1) * per_block;
      continue;
    }
    const auto old = co_await stored.get(cluster);
    if (!old) co_return std::unexpected(old.error());
    const uint64_t value = std::min(counts.get(cluster), header.max_refcount());
    if (*old > value || (all && *old < value))
      if (auto done = co_await stored.set(cluster, value); !done) co_return done;
    ++cluster;
    if (stored.needs_checkpoint())
      if (auto done = co_await write_dirty(); !done) co_return done;
  }
  if (auto done = co_await write_dirty(); !done) co_return done;
  co_return co_await file.sync();
}

// Writes new refcount blocks and a new refcount table behind everything else. Then one write of the
// header switches to them. The new counts treat the old table and its blocks as free.
Task<Result<void>> rebuild_counts(File& file, Header& header, ClusterCounts& counts,
                                  uint64_t file_clusters) {
  const uint64_t per_block = header.refcounts_per_block();
  const uint64_t first = std::max(file_clusters, counts.end());
  std::set<uint64_t> blocks;
  for (uint64_t block = 0; block * per_block < first; ++block)
    if (counts.any(block * per_block, per_block)) blocks.insert(block);
  uint64_t table_clusters = 1;
  for (size_t before = 0; before != blocks.size() + table_clusters;) {
    before = blocks.size() + table_clusters;
    const uint64_t end = first + before;
    for (uint64_t block = first / per_block; block * per_block < end; ++block) blocks.insert(block);
    table_clusters = header.clusters_for((*blocks.rbegin() + 1) * 8);
  }
  if (table_clusters << header.cluster_bits >
      std::max(kMaxRefcountTableBytes, header.cluster_bytes()))
    co_return fail_errno(EFBIG, "{}: the refcount table would become too large", file.path());
  const uint64_t end = first + table_clusters + blocks.size();
  for (uint64_t cluster = first; cluster < end; ++cluster) counts.add(cluster, 1);

  std::vector<uint64_t> table(table_clusters << header.cluster_bits >> 3);
  uint64_t place = first + table_clusters;
  std::vector<std::byte> bytes(header.cluster_bytes());
  for (const uint64_t block : blocks) {
    for (uint64_t i = 0; i < per_block; ++i)
      store_refcount(bytes, i, header.refcount_order,
                     std::min(counts.get(block * per_block + i), header.max_refcount()));
    table[block] = place << header.cluster_bits;
    if (auto done = co_await write_bytes(file, table[block], bytes); !done) co_return done;
    ++place;
  }
  const uint64_t table_offset = first << header.cluster_bits;
  if (auto done = co_await write_table(file, table_offset, table); !done) co_return done;
  if (auto done = co_await file.sync(); !done) co_return done;
  auto done = co_await write_refcount_table_fields(file, table_offset, table_clusters);
  if (!done) co_return done;
  header.refcount_table_offset = table_offset;
  header.refcount_table_clusters = static_cast<uint32_t>(table_clusters);
  header.refcount_table_fault.clear();
  co_return Result<void>();
}

// Writes the usable snapshots to a new table behind everything else. Its clusters are not counted
// yet.
Task<Result<void>> rewrite_snapshots(File& file, Header& header, uint64_t file_clusters) {
  const auto kept = co_await read_snapshots(file, header, Parse::kLenient);
  if (!kept) co_return std::unexpected(kept.error());
  const std::vector<std::byte> bytes = format_snapshots(kept->snapshots);
  const uint64_t offset = bytes.empty() ? 0 : file_clusters << header.cluster_bits;
  if (!bytes.empty()) {
    if (auto done = co_await write_bytes(file, offset, bytes); !done) co_return done;
    if (auto done = co_await file.sync(); !done) co_return done;
  }
  std::array<std::byte, 12> fields{};  // "Header", bytes 60 to 71
  store_be(std::span(fields), static_cast<uint32_t>(kept->snapshots.size()));
  store_be(std::span(fields).subspan(4), offset);
  if (auto done = co_await write_header_fields(file, 60, fields); !done) co_return done;
  header.snapshot_count = static_cast<uint32_t>(kept->snapshots.size());
  header.snapshots_offset = offset;
  header.snapshots_fault.clear();
  co_return Result<void>();
}

}  // namespace

std::vector<uint64_t> usable_blocks(std::vector<uint64_t> table, const Header& header,
                                    uint64_t file_bytes) {
  for (uint64_t& entry : table) {
    entry &= ~kRefcountTableReserved;
    if (entry % header.cluster_bytes() != 0 || entry >= file_bytes) entry = 0;
  }
  return table;
}

Task<Result<void>> repair_qcow2(File& file, Header& header, const References& found,
                                const Mismatches& mismatches,
                                const std::vector<uint64_t>& refcount_table, bool all) {
  const Tell silent = [](const std::string&) {};
  CheckReport ignored;
  EntryRepair entries(file, header, found);
  const bool repairs_entries = all && found.entries_are_wrong();
  if (repairs_entries)
    if (auto done = co_await entries.repair(); !done) co_return done;
  const bool rewrites_snapshots = all && found.snapshots_are_wrong();
  if (rewrites_snapshots)
    if (auto done = co_await rewrite_snapshots(file, header, found.file_clusters()); !done)
      co_return done;
  const bool rebuilds =
      all && (found.must_rebuild() || mismatches.without_block || rewrites_snapshots);

  // Counts the references again, because the repairs above have changed them.
  References now(file, header, ignored, silent);
  const std::vector<uint64_t> none;
  if (auto done = co_await now.count(rebuilds ? none : refcount_table); !done) co_return done;
  ClusterCounts& counts = now.counts();
  const uint64_t end = std::max(now.file_clusters(), counts.end());
  const std::vector<uint64_t> blocks = usable_blocks(refcount_table, header, file.size_bytes());
  auto stored = rebuilds ? rebuild_counts(file, header, counts, now.file_clusters())
                         : store_counts(file, header, counts, blocks, end, all);
  if (auto done = co_await stored; !done) co_return done;
  if (!all) co_return Result<void>();
  EntryRepair flags(file, header, now);
  if (auto done = co_await flags.set_copied(counts); !done) co_return done;
  co_return co_await file.sync();
}

Task<Result<void>> clear_flags(File& file, Header& header) {
  header.incompatible &= ~(kDirty | kCorrupt);
  std::array<std::byte, 8> field{};  // "Header", bytes 72 to 79
  store_be(std::span(field), header.incompatible);
  co_return co_await write_header_fields(file, 72, field);
}

}  // namespace wick::block::qcow2
