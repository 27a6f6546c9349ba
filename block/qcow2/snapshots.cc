#include "block/qcow2/snapshots.h"

#include <algorithm>

#include "base/bytes.h"
#include "block/qcow2/tables.h"

namespace wick::block::qcow2 {

namespace {

constexpr size_t kEntryBytes = 40;             // the fixed part of an entry
constexpr size_t kExtraBytes = 24;             // the known extra data
constexpr uint64_t kMaxTableBytes = 16 << 20;  // kMaxSnapshots of 256 bytes

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Result<SnapshotTable> parse_snapshots(std::span<const std::byte> bytes, const Header& header,
                                      const std::string& path, Parse parse) {
  SnapshotTable table;
  size_t offset = 0;
  for (uint32_t i = 0; i < header.snapshot_count; ++i) {
    const auto ends = [&] {
      return with_hint(fail("{}: the qcow2 image's snapshot table ends within snapshot {} of {}",
                            path, i + 1, header.snapshot_count),
                       "look at it with wick image check");
    };
    const auto end_here = [&]() -> Result<SnapshotTable> {
      if (parse == Parse::kStrict) return ends();
      table.faults.push_back(ends().error().context);
      return std::move(table);
    };
    if (bytes.size() - offset < kEntryBytes) return end_here();
    const auto entry = bytes.subspan(offset);
    Snapshot snapshot{.l1_offset = load_be<uint64_t>(entry),
                      .l1_entries = load_be<uint32_t>(entry.subspan(8)),
                      .id = {},
                      .name = {},
                      .date_s = load_be<uint32_t>(entry.subspan(16)),
                      .date_ns = load_be<uint32_t>(entry.subspan(20)),
                      .vm_clock_ns = load_be<uint64_t>(entry.subspan(24)),
                      .vm_state_bytes = load_be<uint32_t>(entry.subspan(32)),
                      .disk_bytes = header.size_bytes,
                      .extra = {}};
    const size_t id_bytes = load_be<uint16_t>(entry.subspan(12));
    const size_t name_bytes = load_be<uint16_t>(entry.subspan(14));
    const size_t extra_bytes = load_be<uint32_t>(entry.subspan(36));
    const size_t whole = kEntryBytes + extra_bytes + id_bytes + name_bytes;
    if (whole > entry.size()) return end_here();
    const auto extra = entry.subspan(kEntryBytes, extra_bytes);
    if (extra.size() >= 8) snapshot.vm_state_bytes = load_be<uint64_t>(extra);
    if (extra.size() >= 16) snapshot.disk_bytes = load_be<uint64_t>(extra.subspan(8));
    if (extra.size() >= kExtraBytes) snapshot.icount = load_be<uint64_t>(extra.subspan(16));
    if (extra.size() > kExtraBytes) snapshot.extra.assign(extra.begin() + kExtraBytes, extra.end());
    snapshot.id = text_of(entry.subspan(kEntryBytes + extra_bytes, id_bytes));
    snapshot.name = text_of(entry.subspan(kEntryBytes + extra_bytes + id_bytes, name_bytes));
    table.snapshots.push_back(std::move(snapshot));
    table.length_bytes = offset + whole;
    offset = std::min(offset + align_up(whole, 8), bytes.size());
  }
  return table;
}

std::vector<std::byte> format_snapshots(std::span<const Snapshot> snapshots) {
  std::vector<std::byte> bytes;
  for (const Snapshot& snapshot : snapshots) {
    const size_t start = bytes.size();
    const size_t extra_bytes = kExtraBytes + snapshot.extra.size();
    bytes.resize(
        start + align_up(kEntryBytes + extra_bytes + snapshot.id.size() + snapshot.name.size(), 8));
    const std::span entry = std::span(bytes).subspan(start);
    const auto put = [&](size_t offset, auto value) { store_be(entry.subspan(offset), value); };
    put(0, snapshot.l1_offset);
    put(8, snapshot.l1_entries);
    put(12, static_cast<uint16_t>(snapshot.id.size()));
    put(14, static_cast<uint16_t>(snapshot.name.size()));
    put(16, snapshot.date_s);
    put(20, snapshot.date_ns);
    put(24, snapshot.vm_clock_ns);
    put(32, snapshot.vm_state_bytes <= ~0u ? static_cast<uint32_t>(snapshot.vm_state_bytes) : 0u);
    put(36, static_cast<uint32_t>(extra_bytes));
    put(40, snapshot.vm_state_bytes);
    put(48, snapshot.disk_bytes);
    put(56, snapshot.icount);
    std::ranges::copy(snapshot.extra, entry.begin() + kEntryBytes + kExtraBytes);
    const auto text = entry.subspan(kEntryBytes + extra_bytes);
    const std::string names = snapshot.id + snapshot.name;
    std::ranges::copy(as_bytes(names.data(), names.size()), text.begin());
  }
  return bytes;
}

namespace {

// Limit of one snapshot's L1 table that is in a hole of the file.
constexpr uint64_t kMaxEmptyL1Bytes = 1 << 20;
// Limit of all such L1 tables together.
constexpr uint64_t kMaxEmptyL1BytesInAll = 64 << 20;

void drop_impossible(SnapshotTable& table, const Header& header, File& file) {
  TableReader reader(file);
  uint64_t empty_bytes = 0;
  std::erase_if(table.snapshots, [&](const Snapshot& snapshot) {
    const uint64_t l1_bytes = uint64_t{snapshot.l1_entries} * 8;
    const bool inside = snapshot.l1_offset != 0 && snapshot.l1_offset < file.size_bytes();
    const bool empty = inside && l1_bytes > 0 && reader.is_hole(snapshot.l1_offset, l1_bytes);
    if (empty) empty_bytes += l1_bytes;
    const bool has_l1 =
        l1_bytes == 0 ||
        (inside &&
         (!empty || (l1_bytes <= kMaxEmptyL1Bytes && empty_bytes <= kMaxEmptyL1BytesInAll)));
    if (!snapshot.id.empty() && snapshot.has_possible_l1(header) && has_l1) return false;
    table.faults.push_back(fmt::format("snapshot {} ({}) has an L1 table of {} entries at {:#x}",
                                       snapshot.id, snapshot.name, snapshot.l1_entries,
                                       snapshot.l1_offset));
    return true;
  });
}

}  // namespace

Task<Result<SnapshotTable>> read_snapshots(File& file, const Header& header, Parse parse) {
  if (!header.snapshots_fault.empty()) {
    SnapshotTable nothing;
    nothing.faults.push_back(header.snapshots_fault);
    co_return nothing;
  }
  if (header.snapshot_count == 0) co_return SnapshotTable{};
  // The table's length is not known before it is parsed; 128 bytes are enough for most entries.
  const uint64_t file_bytes = file.size_bytes();
  const uint64_t there = file_bytes - std::min(file_bytes, header.snapshots_offset);
  const uint64_t most = std::min(there, kMaxTableBytes);
  for (uint64_t length = std::min(most, uint64_t{header.snapshot_count} * 128);;
       length = std::min(most, length * 4)) {
    std::vector<std::byte> bytes(length);
    if (auto got = co_await read_bytes(file, header.snapshots_offset, bytes); !got)
      co_return failure(got);
    auto table = parse_snapshots(bytes, header, file.path(), parse);
    if (length < most && (!table || !table->faults.empty())) continue;
    if (table && parse == Parse::kLenient) drop_impossible(*table, header, file);
    co_return table;
  }
}

}  // namespace wick::block::qcow2
