// Opening a disk by its path: which format it has, and who reads that format.
// A format is never guessed for writing: it was asked for, or the file has a
// magic, or it is raw with nothing that speaks against it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "block/raw.h"

namespace wick::block {

enum class Format { kRaw };

struct ImageOptions {
  std::optional<Format> format;  // none: by magic and name
  bool read_only = false;
  Cache cache = Cache::kWriteback;
};

// `path` is a regular file or a block device. Everything else, and a file that
// seems to be of a format that wick cannot read, is refused by name.
Result<std::unique_ptr<Backend>> open_image(const std::string& path, const ImageOptions& options,
                                            AsyncIo& io);

// The name of the image format whose magic `sector`, the first 512 bytes of a
// file, carries; or nullptr.
const char* format_of_magic(std::span<const std::byte> sector);

}  // namespace wick::block
