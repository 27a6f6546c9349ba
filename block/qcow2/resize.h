// Changes the size of a qcow2 disk.
//
// Thread rule: as for Backend.
#pragma once

#include "block/qcow2/qcow2.h"

namespace wick::block::qcow2 {

// Cuts the disk, or extends it by zeroes. `size_bytes` is a multiple of 512. After an error the
// disk has its old size; only if the very last step failed, it has the new one. Nobody else
// uses the disk while it is cut, and after an error the image must be opened anew.
Task<Result<void>> resize(Qcow2& disk, uint64_t size_bytes);

// Qcow2::update_size().
Task<Result<void>> take_over_size(Qcow2& disk);

}  // namespace wick::block::qcow2
