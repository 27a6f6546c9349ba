// Reads VDI images: dynamic and fixed ones of header version 1.1, without a parent (QEMU's
// block/vdi.c describes the format).
//
// Thread rule: as for Backend.
#pragma once

#include <memory>

#include "block/backend.h"
#include "block/file.h"

namespace wick::image {

struct VdiDisk {
  std::unique_ptr<block::Backend> disk;
  uint64_t block_bytes = 0;
};
Task<Result<VdiDisk>> open_vdi(std::unique_ptr<block::File> file);

}  // namespace wick::image
