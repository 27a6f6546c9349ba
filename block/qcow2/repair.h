// Repairs what a check of a qcow2 image found (check.h).
//
// Thread rule: as for File.
#pragma once

#include <vector>

#include "block/qcow2/refcounts.h"
#include "block/qcow2/references.h"

namespace wick::block::qcow2 {

// The differences between the stored reference counts and the references.
struct Mismatches {
  bool leaks = false;
  bool too_small = false;
  bool without_block = false;  // some counts that are too small have no refcount block
  bool copied_flags = false;
};

// Returns the refcount table with 0 in place of entries that cannot point to a refcount block.
std::vector<uint64_t> usable_blocks(std::vector<uint64_t> table, const Header& header,
                                    uint64_t file_bytes);

// Repairs what was found; without `all`, only leaks. Updates `header` if a table moves.
Task<Result<void>> repair_qcow2(File& file, Header& header, const References& found,
                                const Mismatches& mismatches,
                                const std::vector<uint64_t>& refcount_table, bool all);

// Clears the image's dirty bit and corrupt bit.
Task<Result<void>> clear_flags(File& file, Header& header);

}  // namespace wick::block::qcow2
