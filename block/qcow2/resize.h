// Changes the size of a qcow2 disk.
//
// Thread rule: as for Backend.
#pragma once

#include "block/qcow2/qcow2.h"

namespace wick::block::qcow2 {

// Cuts the disk, or extends it by zeroes. `size_bytes` is a multiple of 512. After an error the
// old size remains, except if the final checkpoint fails: then the new size is in effect.
// Nobody else may use the disk while it is cut; if cutting fails, open the image anew.
Task<Result<void>> resize(Qcow2& disk, uint64_t size_bytes);

// Implements Qcow2::update_size().
Task<Result<void>> apply_announced_size(Qcow2& disk);

}  // namespace wick::block::qcow2
