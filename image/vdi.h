// Creates VDI images, VirtualBox's format ("dynamic", header version 1.1; QEMU's
// block/vdi.c describes it).
//
// Thread rule: as for CopyTarget.
#pragma once

#include <memory>

#include "block/file.h"
#include "image/copy.h"

namespace wick::image {

// `file` must be empty and outlive the target. Fails for disks that are too large.
Result<std::unique_ptr<CopyTarget>> new_vdi(block::File& file, uint64_t size_bytes);

}  // namespace wick::image
