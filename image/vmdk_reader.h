// Reads VMDK images: one file or several, sparse, flat or compressed (VMware Virtual Disk
// Format 1.1), without a parent. ESX's own sparse formats are not supported.
//
// Thread rule: as for Backend.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/backend.h"
#include "block/file.h"

namespace wick::image {

// The content of the descriptor.
struct VmdkInfo {
  struct Extent {
    std::string path;
    std::string type;  // "SPARSE", "FLAT", ...; empty: in the file with the descriptor
    uint64_t size_bytes = 0;
    uint64_t grain_bytes = 0;  // 0: flat
    bool compressed = false;
  };
  uint32_t cid = 0;
  uint32_t parent_cid = 0xffff'ffff;
  std::string create_type;
  std::vector<Extent> extents;
  uint64_t allocated_bytes = 0;  // the space that all files take on the host
};

struct VmdkDisk {
  std::unique_ptr<block::Backend> disk;
  VmdkInfo info;
};

// `open_beside` opens a file that the descriptor names. The names are relative and without
// "..", but not trusted: the author of the image chose them.
using OpenBeside = std::function<Result<std::unique_ptr<block::File>>(const std::string& name)>;
Task<Result<VmdkDisk>> open_vmdk(std::unique_ptr<block::File> file, OpenBeside open_beside);

}  // namespace wick::image
