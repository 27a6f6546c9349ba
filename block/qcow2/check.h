// Checks and repairs qcow2 images: `wick image check`.
//
// The check compares every reference count with the number of references, and checks each
// table entry by itself and the copied flags. A repair first makes impossible entries read as
// zeroes, then corrects counts, then copied flags. In this order, a crash at any point leaves
// the image no worse than it was.
//
// Thread rule: as for File. Nobody else uses the file meanwhile.
#pragma once

#include "block/qcow2/references.h"

namespace wick::block {

using qcow2::CheckReport;

enum class Repair : uint8_t { kNone, kLeaks, kAll };

// Checks an image, and repairs it if `repair` says so. Fails if the check cannot be done. With a
// repair, the report describes the repaired image, and counts what was repaired. `tell` is called
// for each finding before the repair. `only_usual`: see References::count().
Task<Result<CheckReport>> check_qcow2(File& file, Repair repair, qcow2::Tell tell,
                                      bool only_usual = false);

}  // namespace wick::block
