// Checks and repairs qcow2 images: `wick image check`.
//
// What is checked: every reference count against what the tables point to, each
// entry by itself, and the copied flags. What is repaired, in an order in which a
// crash at any point leaves the image no worse: entries that can be nothing are
// made to read as zeroes, then counts, then copied flags.
//
// Thread rule: as for File. Nobody else uses the file meanwhile.
#pragma once

#include "block/qcow2/references.h"

namespace wick::block {

using qcow2::CheckReport;

enum class Repair : uint8_t { kNone, kLeaks, kAll };

// Fails when the check cannot be done. With a repair, the report is of the image as
// it is then, and counts what was repaired. `tell` hears what is found before that.
// `only_usual`: see References::count().
Task<Result<CheckReport>> check_qcow2(File& file, Repair repair, qcow2::Tell tell,
                                      bool only_usual = false);

}  // namespace wick::block
