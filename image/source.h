// Opens images that a command reads as disks. Besides raw and qcow2, the formats of guests' disks,
// these can be vdi and vmdk, which only wick image reads.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/backend.h"
#include "block/image.h"
#include "block/io_thread.h"
#include "image/commands.h"
#include "image/vmdk_reader.h"

namespace wick::image {

const char* format_name(ImageFormat format);
std::optional<ImageFormat> image_format_of_name(std::string_view name);
// Converts the format for code that knows only raw and qcow2; nullopt for other formats.
std::optional<block::Format> block_format(std::optional<ImageFormat> format);

struct SourceOptions {
  std::optional<ImageFormat> format;  // absent: detected by its magic
  bool share = false;                 // without locks: another program may write to it
  block::Cache cache = block::Cache::kWriteback;
};

struct Source {
  ImageFormat format = ImageFormat::kRaw;
  std::unique_ptr<block::Backend> disk;
  // Only for vdi and vmdk:
  std::vector<std::string> files;  // all files from which the disk is read
  uint64_t block_bytes = 0;        // 0: no blocks
  uint64_t allocated_bytes = 0;    // the space that the files take on the host
  std::optional<VmdkInfo> vmdk;
};

Result<Source> open_source(block::IoThread& thread, const std::string& path,
                           const SourceOptions& options);

// Switches the source to the content of its snapshot `snapshot`: an ID, a name, or, as in
// qemu-img's -l, snapshot.id=ID,snapshot.name=NAME.
Result<void> show_snapshot(block::IoThread& thread, Source& source, const std::string& snapshot);

// Returns the format of `path`: `given`, or else the format of the file's magic; raw if the file
// has none.
Result<ImageFormat> format_of(block::IoThread& thread, const std::string& path,
                              std::optional<ImageFormat> given);
inline bool is_foreign(ImageFormat format) {
  return format == ImageFormat::kVdi || format == ImageFormat::kVmdk;
}

}  // namespace wick::image
