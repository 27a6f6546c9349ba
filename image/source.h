// What a command on images reads as a disk: the formats that guests' disks have, and
// those that only wick image reads.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/backend.h"
#include "block/image.h"
#include "image/commands.h"
#include "image/runner.h"
#include "image/vmdk_reader.h"

namespace wick::image {

const char* format_name(ImageFormat format);
std::optional<ImageFormat> image_format_of_name(std::string_view name);
// The format for what knows raw and qcow2 only; nothing for others.
std::optional<block::Format> block_format(std::optional<ImageFormat> format);

struct SourceOptions {
  std::optional<ImageFormat> format;  // none: by magic
  bool share = false;                 // without locks: another program may write to it
  block::Cache cache = block::Cache::kWriteback;
};

struct Source {
  ImageFormat format = ImageFormat::kRaw;
  std::unique_ptr<block::Backend> disk;
  // Of vdi and vmdk only:
  std::vector<std::string> files;  // all that it is read from
  uint64_t block_bytes = 0;        // 0: it has none
  uint64_t allocated_bytes = 0;    // of the host's files
  std::optional<VmdkInfo> vmdk;
};

Result<Source> open_source(ImageRunner& runner, const std::string& path,
                           const SourceOptions& options);

// The source then reads as it was. `snapshot`: its ID or its name, or as qemu-img's -l
// has it: snapshot.id=ID,snapshot.name=NAME.
Result<void> show_snapshot(ImageRunner& runner, Source& source, const std::string& snapshot);

// What `path` is: `given`, or by its magic.
Result<ImageFormat> format_of(ImageRunner& runner, const std::string& path,
                              std::optional<ImageFormat> given);
inline bool is_foreign(ImageFormat format) {
  return format == ImageFormat::kVdi || format == ImageFormat::kVmdk;
}

}  // namespace wick::image
