// Creates VMDK images, VMware's format: one file, "monolithicSparse" (VMware Virtual
// Disk Format 1.1, "Hosted Sparse Extents").
//
// Thread rule: as for CopyTarget.
#pragma once

#include <memory>

#include "block/file.h"
#include "image/copy.h"

namespace wick::image {

// `file` must be empty and outlive the target. Fails for disks that are too large.
Result<std::unique_ptr<CopyTarget>> new_vmdk(block::File& file, uint64_t size_bytes);

}  // namespace wick::image
