// Reads the header of a disk image, for query-block and `info block -v`. The file is opened again
// for this, because the open image belongs to the disk's thread.
//
// Thread rule: any thread. Reads at most the header's cluster of the file.
#pragma once

#include <cstdint>
#include <optional>

#include "block/qcow2/format.h"
#include "vmm/hardware.h"

namespace wick::control {

struct ImageDetails {
  // Space that the file takes on the host; nullopt: the file cannot be opened.
  std::optional<uint64_t> allocated_bytes;
  uint64_t file_bytes = 0;
  std::optional<block::qcow2::Header> qcow2;
};

ImageDetails read_image_details(const vmm::DiskInfo& disk);

}  // namespace wick::control
