// New image files, of the formats that open_image() knows.
//
// Thread rule: as for File.
#pragma once

#include <string>
#include <variant>

#include "block/image.h"
#include "block/qcow2/create.h"

namespace wick::image {

struct RawCreateOptions {
  uint64_t size_bytes = 0;
  block::Preallocation preallocation = block::Preallocation::kOff;  // not kMetadata
};

using CreateOptions = std::variant<RawCreateOptions, block::Qcow2CreateOptions>;

// Replaces what is at `path`, which is a regular file or nothing; what could not be
// finished is removed. The data file that qcow2 options name is made
// with it, beside it. Whether the backing file is there is the caller's to look.
Task<Result<void>> create_image(std::string path, CreateOptions options, block::AsyncIo& io);

}  // namespace wick::image
