// The table of an image's internal snapshots (qcow2 specification, "Snapshots").
//
// Thread rule: as for File.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "block/file.h"
#include "block/qcow2/format.h"

namespace wick::block::qcow2 {

struct Snapshot {
  uint64_t l1_offset = 0;
  uint32_t l1_entries = 0;
  std::string id;
  std::string name;
  uint32_t date_s = 0;  // since the Epoch
  uint32_t date_ns = 0;
  uint64_t vm_clock_ns = 0;
  uint64_t vm_state_bytes = 0;
  uint64_t disk_bytes = 0;
  uint64_t icount = ~0ull;       // ~0: not recorded
  std::vector<std::byte> extra;  // the extra data that wick does not know

  bool has_possible_l1(const Header& header) const {
    return l1_offset % header.cluster_bytes() == 0 && uint64_t{l1_entries} * 8 <= kMaxL1Bytes;
  }
};

// A parsed snapshot table.
struct SnapshotTable {
  std::vector<Snapshot> snapshots;
  uint64_t length_bytes = 0;
  std::vector<std::string> faults;  // lenient parse: why snapshots were skipped
};
// Parses the table at the start of `bytes`, which may be longer than the table.
Result<SnapshotTable> parse_snapshots(std::span<const std::byte> bytes, const Header& header,
                                      const std::string& path, Parse parse);
std::vector<std::byte> format_snapshots(std::span<const Snapshot> snapshots);

// Reads and parses the table. A lenient parse skips impossible snapshots.
Task<Result<SnapshotTable>> read_snapshots(File& file, const Header& header,
                                           Parse parse = Parse::kStrict);

}  // namespace wick::block::qcow2
