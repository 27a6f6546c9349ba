// What an image file says about itself, without reading its data: also of images
// that wick cannot read as disks (encrypted, corrupt).
//
// Thread rule: as for File.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/image.h"
#include "block/qcow2_format.h"
#include "block/qcow2_snapshots.h"

namespace wick::block {

struct ImageInfo {
  std::string path;
  Format format = Format::kRaw;
  uint64_t size_bytes = 0;
  uint64_t allocated_bytes = 0;  // of the host's file

  struct Qcow2 {
    qcow2::Header header;
    std::vector<qcow2::Snapshot> snapshots;
  };
  std::optional<Qcow2> qcow2;

  // The backing file, if there is one, as a path of ours.
  std::string full_backing_path;
};

Task<Result<ImageInfo>> inspect_image(std::string path, std::optional<Format> format, AsyncIo& io);

}  // namespace wick::block
