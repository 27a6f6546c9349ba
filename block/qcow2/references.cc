#include "block/qcow2/references.h"

#include <algorithm>
#include <limits>
#include <map>

#include "base/bytes.h"

namespace wick::block::qcow2 {

namespace {

constexpr uint64_t kEntriesAtOnce = 8192;
constexpr uint64_t kMaxBitmaps = 65535;  // QEMU's limit
constexpr uint64_t kMaxBitmapDirectoryBytes = 16 << 20;
constexpr uint64_t kMaxBitmapTableBytes = 64 << 20;  // the limit of all bitmap tables together
constexpr uint64_t kMaxLuksBytes = 64 << 20;

// With `only_usual`, the tables may be larger than the data in the file, but at most by this.
constexpr uint64_t kUsualExcessBytes = 64 << 20;

}  // namespace

void ClusterCounts::add(uint64_t cluster, uint64_t count) {
  uint32_t& value = place(cluster);
  const uint32_t flag = value & ~kMaxCount;
  const uint64_t sum = std::min<uint64_t>(count, kMaxCount) + (value & kMaxCount);
  value = flag | static_cast<uint32_t>(std::min<uint64_t>(sum, kMaxCount));
  end_ = std::max(end_, cluster + 1);
  if (cluster / kRange >= ranges_.size()) ranges_.resize(cluster / kRange + 1);
  ranges_[cluster / kRange] = true;
}

bool ClusterCounts::any(uint64_t first, uint64_t count) const {
  const uint64_t end = std::min(first + count, end_);
  for (uint64_t cluster = first; cluster < end; ++cluster) {
    if (!ranges_[cluster / kRange])
      cluster += kRange - cluster % kRange - 1;
    else if (get(cluster) > 0)
      return true;
  }
  return false;
}

// Returns the slot of the cluster, or the free slot for it.
size_t ClusterCounts::slot_of(uint64_t cluster) const {
  const size_t mask = slots_.size() - 1;
  // The image's maker chooses the clusters, but cannot know the key.
  uint64_t hash = cluster ^ key_;
  hash = (hash ^ hash >> 33) * 0xff51'afd7'ed55'8ccd;
  hash = (hash ^ hash >> 33) * 0xc4ce'b9fe'1a85'ec53;
  size_t at = (hash ^ hash >> 33) & mask;
  while (slots_[at].cluster != kNone && slots_[at].cluster != cluster) at = (at + 1) & mask;
  return at;
}

uint32_t ClusterCounts::find(uint64_t cluster) const {
  if (!array_.empty()) return cluster < array_.size() ? array_[cluster] : 0;
  return slots_.empty() ? 0 : slots_[slot_of(cluster)].value;
}

uint32_t& ClusterCounts::place(uint64_t cluster) {
  if (array_.empty() && used_slots_ * 2 >= slots_.size()) grow();
  if (!array_.empty()) {
    if (cluster >= array_.size()) array_.resize(cluster + 1);
    return array_[cluster];
  }
  Slot& slot = slots_[slot_of(cluster)];
  if (slot.cluster == kNone) ++used_slots_;
  slot.cluster = static_cast<uint32_t>(cluster);
  return slot.value;
}

void ClusterCounts::grow() {
  const std::vector<Slot> old = std::move(slots_);
  const size_t size = std::max<size_t>(old.size() * 2, 4096);
  slots_.clear();
  if (size * sizeof(Slot) < file_clusters_ * sizeof(uint32_t))
    slots_.resize(size);
  else
    array_.resize(std::max(file_clusters_, end_) + 1);
  for (const Slot& slot : old)
    if (slot.cluster != kNone) place(slot.cluster) = slot.value;
}

L2Finding examine_l2_entry(const Header& header, uint64_t descriptor, uint64_t bitmap) {
  L2Finding found;
  if ((descriptor & kCompressed) != 0) {
    found.compressed = true;
    if ((descriptor & kCopied) != 0) found.wrong = "a compressed cluster with the copied flag";
    if (header.external_data()) {
      found.wrong = "a compressed cluster beside a data file";
    } else if (bitmap != 0) {
      found.wrong = "a compressed cluster with subclusters";
    } else {
      const CompressedRange range = compressed_range(header, descriptor & ~kCopied);
      found.allocated = true;
      found.offset = range.offset;
      found.length_bytes = range.length_bytes;
    }
    return found;
  }
  if ((descriptor & kL2Reserved) != 0) found.wrong = "reserved bits";
  const uint64_t offset = descriptor & kOffsetMask;
  const bool in_data_file = header.external_data() && (descriptor & kCopied) != 0;
  if (offset == 0 && !in_data_file) {
    if ((bitmap & 0xffff'ffff) != 0) found.wrong = "subclusters without a cluster";
    return found;
  }
  if (((bitmap >> 32) & bitmap & 0xffff'ffff) != 0) {
    found.wrong = "subclusters that are both data and zeroes";
    return found;
  }
  if (offset % header.cluster_bytes() != 0) found.wrong = "a cluster not at a cluster's start";
  found.allocated = true;
  found.offset = offset;
  if (!header.external_data()) found.length_bytes = header.cluster_bytes();
  return found;
}

void References::corruption(const std::string& finding) {
  ++report_.corruptions;
  tell_("ERROR " + finding);
}

bool References::in_file(uint64_t offset, uint64_t length) const {
  return offset <= file_bytes_ + header_.cluster_bytes() &&
         offset + length < file_bytes_ + header_.cluster_bytes();
}

bool References::add(uint64_t offset, uint64_t length, uint64_t times, Use use) {
  if (length == 0) return true;
  if (!in_file(offset, length)) {
    corruption(fmt::format("{} bytes at {:#x} are in use, but they are behind the file's end",
                           length, offset));
    return false;
  }
  const uint32_t bits = header_.cluster_bits;
  for (uint64_t cluster = offset >> bits; cluster <= (offset + length - 1) >> bits; ++cluster) {
    counts_.add(cluster, times);
    if (use == Use::kTable) counts_.set_table(cluster);
    const uint64_t count = counts_.get(cluster);
    if (count <= header_.max_refcount()) continue;
    report_.corruptions += std::min(times, count - header_.max_refcount()) - 1;
    corruption(fmt::format("cluster {} is in use more often than can be counted", cluster));
  }
  return true;
}

Task<Result<void>> References::count(const std::vector<uint64_t>& refcount_table, bool only_usual) {
  file_bytes_ = file_.size_bytes();
  file_clusters_ = header_.clusters_for(file_bytes_);
  if (file_clusters_ > static_cast<uint64_t>(std::numeric_limits<int32_t>::max()))  // QEMU's limit
    co_return fail_errno(EFBIG, "{}: has too many clusters to be checked", file_.path());
  counts_.set_file_clusters(file_clusters_);
  report_.total_clusters = header_.clusters_for(header_.size_bytes);
  if (!header_.refcount_table_fault.empty()) {
    must_rebuild_ = true;
    corruption(header_.refcount_table_fault);
  }
  add(0, header_.cluster_bytes(), 1, Use::kTable);
  if (auto found = co_await find_l1_tables(); !found) co_return found;
  if (only_usual)
    if (auto usual = check_claims(); !usual) co_return usual;
  for (const L1Table& table : l1_tables_)
    if (auto counted = co_await count_l1(table); !counted) co_return counted;
  merge_l2_tables();
  if (only_usual)
    if (auto usual = check_claims(); !usual) co_return usual;
  for (const L2Table& table : l2_tables_)
    if (auto counted = co_await count_l2(table); !counted) co_return counted;
  if (header_.luks)
    add(header_.luks->offset, std::min(header_.luks->length_bytes, kMaxLuksBytes), 1, Use::kTable);
  if (auto counted = co_await count_bitmaps(); !counted) co_return counted;
  if (!refcount_table.empty()) count_refcount_blocks(refcount_table);
  co_return Result<void>();
}

// Refuses tables that are much larger than the data in the file.
Result<void> References::check_claims() const {
  uint64_t claimed = l2_tables_.size() << header_.cluster_bits;
  for (const L1Table& table : l1_tables_) claimed += table.entries * 8;
  if (claimed <= file_.allocated_bytes() + kUsualExcessBytes) return {};
  return fail_errno(EFBIG, "{}: has tables for {} bytes, but only {} bytes of data", file_.path(),
                    claimed, file_.allocated_bytes());
}

// Calls `each(index, entry)` for the entries of a table that are not zero.
template <typename F>
Task<Result<void>> References::for_each_entry(uint64_t offset, uint64_t entries, F each) {
  for (uint64_t start = 0; start < entries; start += kEntriesAtOnce) {
    // Behind the file's end a table has only zeroes.
    if (offset + start * 8 >= file_bytes_) break;
    const auto part =
        co_await reader_.read(offset + start * 8, std::min(kEntriesAtOnce, entries - start));
    if (!part) co_return std::unexpected(part.error());
    for (uint64_t i = 0; i < part->size(); ++i)
      if ((*part)[i] != 0) each(start + i, (*part)[i]);
  }
  co_return Result<void>();
}

bool References::is_l2_table(uint64_t offset) const {
  return std::ranges::binary_search(l2_tables_, offset, {}, &L2Table::offset);
}

// Sorts the tables, and merges those at the same offset.
void References::merge_l2_tables() {
  std::ranges::sort(l2_tables_, {}, &L2Table::offset);
  size_t merged = 0;
  for (size_t i = 1; i < l2_tables_.size(); ++i) {
    const L2Table& table = l2_tables_[i];
    if (table.offset != l2_tables_[merged].offset) {
      l2_tables_[++merged] = table;
      continue;
    }
    const auto sum = [](uint32_t one, uint32_t other) {
      return static_cast<uint32_t>(
          std::min<uint64_t>(uint64_t{one} + other, ClusterCounts::kMaxCount));
    };
    l2_tables_[merged].users = sum(l2_tables_[merged].users, table.users);
    l2_tables_[merged].active = sum(l2_tables_[merged].active, table.active);
  }
  if (!l2_tables_.empty()) l2_tables_.resize(merged + 1);
  merged_l2_tables_ = l2_tables_.size();
}

// Finds the L1 tables of the disk and of its snapshots. Overlapping tables are left out, so
// that all together are not larger than the file.
Task<Result<void>> References::find_l1_tables() {
  std::map<uint64_t, L1Table> tables;  // the key is the table's offset
  if (header_.l1_entries > 0)
    tables[header_.l1_offset] = {header_.l1_offset, header_.l1_entries, 1, true};
  auto read = co_await read_snapshots(file_, header_, Parse::kLenient);
  if (!read) co_return failure(read);
  for (const std::string& fault : read->faults) {
    snapshots_are_wrong_ = true;
    corruption(fault);
  }
  add(header_.snapshots_offset, read->length_bytes, 1, Use::kTable);
  if (header_.external_data() && !read->snapshots.empty())
    corruption("there are snapshots beside a data file");
  for (const Snapshot& snapshot : read->snapshots) {
    if (snapshot.l1_entries == 0) continue;
    L1Table& table = tables[snapshot.l1_offset];
    if (table.users > 0 && table.entries != snapshot.l1_entries)
      corruption(fmt::format("snapshot {} ({}) has an L1 table that overlaps another one",
                             snapshot.id, snapshot.name));
    table.offset = snapshot.l1_offset;
    table.entries = std::max<uint64_t>(table.entries, snapshot.l1_entries);
    ++table.users;
  }
  uint64_t end = 0;
  for (const auto& [offset, table] : tables) {
    if (offset < end) {
      corruption(fmt::format("the L1 table at {:#x} overlaps another one", offset));
      continue;
    }
    l1_tables_.push_back(table);
    end = offset + table.entries * 8;
  }
  co_return Result<void>();
}

Task<Result<void>> References::count_l1(const L1Table& table) {
  add(table.offset, table.entries * 8, table.users, Use::kTable);
  co_return co_await for_each_entry(
      table.offset, table.entries, [&](uint64_t index, uint64_t entry) {
        const auto wrong = [&](const char* what) {
          entries_are_wrong_ = true;
          corruption(fmt::format("L1 entry {} of the table at {:#x} is {:#x}: {}", index,
                                 table.offset, entry, what));
        };
        if ((entry & kL1Reserved) != 0) wrong("reserved bits");
        const uint64_t l2 = entry & kOffsetMask;
        if (l2 == 0) return wrong("an L2 table where the header is");
        if (l2 % header_.cluster_bytes() != 0) return wrong("an L2 table not at a cluster's start");
        if (!in_file(l2, header_.cluster_bytes()))
          return wrong("an L2 table behind the file's end");
        l2_tables_.push_back({l2, static_cast<uint32_t>(table.users), table.active ? 1u : 0u});
        if (l2_tables_.size() > 2 * merged_l2_tables_ + kEntriesAtOnce) merge_l2_tables();
      });
}

Task<Result<void>> References::count_l2(const L2Table& table) {
  const uint64_t offset = table.offset;
  add(offset, header_.cluster_bytes(), table.users, Use::kL2);
  if (counts_.is_table(offset >> header_.cluster_bits)) entries_are_wrong_ = true;
  const auto entries = co_await reader_.read(offset, header_.cluster_bytes() / 8);
  if (!entries) co_return std::unexpected(entries.error());
  const uint64_t step = header_.l2_entry_bytes() / 8;
  uint64_t next = 0;
  for (uint64_t i = 0; i < entries->size(); i += step) {
    const uint64_t descriptor = (*entries)[i];
    const uint64_t bitmap = step > 1 ? (*entries)[i + 1] : 0;
    if (descriptor == 0 && bitmap == 0) continue;
    const L2Finding found = examine_l2_entry(header_, descriptor, bitmap);
    if (found.wrong != nullptr) {
      entries_are_wrong_ = true;
      corruption(fmt::format("L2 entry {} of the table at {:#x} is {:#x}: {}", i / step, offset,
                             descriptor, found.wrong));
    }
    if (!found.allocated) continue;
    report_.allocated_clusters += table.active;
    if (found.compressed) report_.compressed_clusters += table.active;
    if (found.compressed || (next != 0 && found.offset != next))
      report_.fragmented_clusters += table.active;
    if (!found.compressed) next = found.offset + header_.cluster_bytes();
    if (!add(found.offset, found.length_bytes, table.users, Use::kData)) entries_are_wrong_ = true;
  }
  co_return Result<void>();
}

// Counts the bitmaps' clusters ("Bitmaps extension", "Bitmap directory", "Bitmap table").
Task<Result<void>> References::count_bitmaps() {
  if (!header_.bitmaps || (header_.autoclear & kBitmaps) == 0 || header_.bitmaps->count == 0)
    co_return Result<void>();
  const Header::Bitmaps& bitmaps = *header_.bitmaps;
  const auto bad = [&] {
    return fail("{}: the directory of its bitmaps is damaged", file_.path());
  };
  if (bitmaps.count > kMaxBitmaps || bitmaps.directory_bytes > kMaxBitmapDirectoryBytes ||
      bitmaps.directory_offset % header_.cluster_bytes() != 0 ||
      !in_file(bitmaps.directory_offset, bitmaps.directory_bytes))
    co_return bad();
  add(bitmaps.directory_offset, bitmaps.directory_bytes, 1, Use::kTable);
  std::vector<std::byte> directory(bitmaps.directory_bytes);
  auto got = co_await read_bytes(file_, bitmaps.directory_offset, directory);
  if (!got) co_return got;
  uint64_t walked_bytes = 0;
  std::span<const std::byte> rest = directory;
  for (uint32_t i = 0; i < bitmaps.count; ++i) {
    if (rest.size() < 24) co_return bad();
    const auto table = load_be<uint64_t>(rest);
    const auto entries = load_be<uint32_t>(rest.subspan(8));
    const uint64_t length = align_up(
        uint64_t{24} + load_be<uint16_t>(rest.subspan(18)) + load_be<uint32_t>(rest.subspan(20)),
        8);
    walked_bytes += uint64_t{entries} * 8;
    if (length > rest.size() || table % header_.cluster_bytes() != 0 ||
        !in_file(table, uint64_t{entries} * 8) || walked_bytes > kMaxBitmapTableBytes)
      co_return bad();
    rest = rest.subspan(length);
    add(table, uint64_t{entries} * 8, 1, Use::kTable);
    auto counted = co_await for_each_entry(table, entries, [&](uint64_t, uint64_t entry) {
      const uint64_t offset = entry & kOffsetMask;
      if ((entry & ~kOffsetMask & ~1ull) != 0 || offset % header_.cluster_bytes() != 0 ||
          (offset != 0 && (entry & 1) != 0))
        return corruption(fmt::format("bitmap table entry {:#x}", entry));
      if (offset != 0) add(offset, header_.cluster_bytes(), 1, Use::kData);
    });
    if (!counted) co_return counted;
  }
  co_return Result<void>();
}

void References::count_refcount_blocks(const std::vector<uint64_t>& table) {
  add(header_.refcount_table_offset, table.size() * 8, 1, Use::kTable);
  for (uint64_t i = 0; i < table.size(); ++i) {
    const uint64_t entry = table[i];
    if (entry == 0) continue;
    const uint64_t cluster = entry >> header_.cluster_bits;
    const char* wrong = nullptr;
    if ((entry & kRefcountTableReserved) != 0)
      wrong = "has reserved bits";
    else if (entry % header_.cluster_bytes() != 0)
      wrong = "is not at a cluster's start";
    else if (cluster >= file_clusters_)
      wrong = "is behind the file's end";
    else if (!add(entry, header_.cluster_bytes(), 1, Use::kTable) || counts_.get(cluster) != 1)
      wrong = "lies where something else does";
    if (wrong == nullptr) continue;
    must_rebuild_ = true;
    entries_are_wrong_ = entries_are_wrong_ || is_l2_table(entry);
    corruption(fmt::format("refcount block {} at {:#x} {}", i, entry, wrong));
  }
}

}  // namespace wick::block::qcow2
