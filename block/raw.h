// A raw disk: byte N of the disk is byte N of a regular file or of a block device.
#pragma once

#include <memory>

#include "block/backend.h"
#include "block/file.h"

namespace wick::block {

struct RawOptions {
  bool read_only = false;
  // Set if the user did not give `format=raw`: a guest must not turn the disk into another format
  // by writing that format's magic (PITFALLS 21).
  bool refuse_foreign_magic = false;
  bool may_be_empty = false;
};

// Opens a raw disk. If the file's size is not a multiple of 512, the disk is padded with zeroes to
// the next multiple.
Result<std::unique_ptr<Backend>> open_raw(std::unique_ptr<File> file, const RawOptions& options);

}  // namespace wick::block
