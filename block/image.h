// Opening a disk by its path: which format it has, and who reads that format.
// A format is never guessed for writing: it was asked for, or the file has a
// magic, or it is raw with nothing that speaks against it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "block/backend.h"
#include "block/file.h"

namespace wick::block {

enum class Format { kRaw, kQcow2 };

struct ImageOptions {
  std::optional<Format> format;  // none: by magic and name
  bool read_only = false;
  Cache cache = Cache::kWriteback;
  uint64_t cache_bytes = 2 << 20;  // qcow2: of tables in memory
  bool lock = true;                // keep others out (block/image_lock.h)
};

constexpr int kMostBackingFiles = 16;

// `path` is a regular file or a block device. Everything else, and a file that
// seems to be of a format that wick cannot read, is refused by name. The files
// that an image names (backing files, which are only read, and a data file) are
// opened with it; their relative names start at the image's folder.
Task<Result<std::unique_ptr<Backend>>> open_image(std::string path, ImageOptions options,
                                                  AsyncIo& io);

// The format of the image that starts with `sector`, the first 512 bytes of a
// file; or nullptr.
const char* format_of_magic(std::span<const std::byte> sector);

}  // namespace wick::block
