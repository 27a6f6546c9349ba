// New VDI images, VirtualBox's format ("dynamic", header version 1.1; QEMU's
// block/vdi.c describes it).
//
// Thread rule: as for CopyTarget.
#pragma once

#include <memory>

#include "block/copy.h"
#include "block/file.h"

namespace wick::block {

// `file` is empty and must outlive the target. Fails for disks that are too large.
Result<std::unique_ptr<CopyTarget>> new_vdi(File& file, uint64_t size_bytes);

}  // namespace wick::block
