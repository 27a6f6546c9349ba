// Empties a qcow2 image, for wick image commit.
#pragma once

#include "block/qcow2/metadata.h"

namespace wick::block::qcow2 {

// Unmaps and frees all clusters of the disk, which then reads as its backing file. Snapshots keep
// their content. Nobody else may use the disk meanwhile.
Task<Result<void>> make_empty(Metadata& metadata);

}  // namespace wick::block::qcow2
