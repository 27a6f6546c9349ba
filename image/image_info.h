// The metadata of an image file. Works also for images that wick cannot read as disks
// (encrypted, corrupt).
//
// Thread rule: as for File.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/image.h"
#include "block/qcow2/bitmaps.h"
#include "block/qcow2/format.h"
#include "block/qcow2/snapshots.h"

namespace wick::image {

struct ImageInfo {
  std::string path;
  block::Format format = block::Format::kRaw;
  uint64_t size_bytes = 0;
  uint64_t allocated_bytes = 0;  // the space that the file takes on the host

  // The header of encrypted data (LUKS On-Disk Format Specification 1.2.3).
  struct Luks {
    struct Slot {
      bool active = false;
      uint32_t iterations = 0;
      uint64_t key_offset = 0;
      uint32_t stripes = 0;
    };
    std::string cipher;  // "aes"
    std::string mode;    // "xts-plain64"
    std::string hash;
    std::string uuid;
    uint32_t key_bytes = 0;
    uint64_t payload_offset = 0;
    uint32_t iterations = 0;
    std::vector<Slot> slots;
  };
  struct Qcow2 {
    block::qcow2::Header header;
    std::vector<block::qcow2::Snapshot> snapshots;
    std::vector<block::qcow2::Bitmap> bitmaps;
    std::optional<Luks> luks;
  };
  std::optional<Qcow2> qcow2;

  // The path by which this process can open the backing file; empty if there is no backing file.
  std::string full_backing_path;
};

Task<Result<ImageInfo>> inspect_image(std::string path, std::optional<block::Format> format,
                                      block::AsyncIo& io);

}  // namespace wick::image
