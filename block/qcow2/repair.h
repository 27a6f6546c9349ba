// Mends what a check of a qcow2 image found (qcow2_check.h).
//
// Thread rule: as for File.
#pragma once

#include <vector>

#include "block/qcow2/refcounts.h"
#include "block/qcow2/references.h"

namespace wick::block::qcow2 {

// Where stored reference counts are not what was counted.
struct Mismatches {
  bool leaks = false;
  bool too_small = false;
  bool without_block = false;  // some of the latter have no refcount block
  bool copied_flags = false;
};

// Its entries that can be refcount blocks; 0 in place of the others.
std::vector<uint64_t> usable_blocks(std::vector<uint64_t> table, const Header& header,
                                    uint64_t file_bytes);

// `all`: not only leaks. `header` follows where the refcount table moves.
Task<Result<void>> repair_qcow2(File& file, Header& header, const References& found,
                                const Mismatches& mismatches,
                                const std::vector<uint64_t>& refcount_table, bool all);

// The dirty and the corrupt bit.
Task<Result<void>> clear_flags(File& file, Header& header);

}  // namespace wick::block::qcow2
