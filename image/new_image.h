// Creates image files in the formats that open_image() knows.
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
  block::Preallocation preallocation = block::Preallocation::kOff;  // kMetadata is not allowed
};

using CreateOptions = std::variant<RawCreateOptions, block::Qcow2CreateOptions>;

// Creates or replaces the regular file at `path`, and the data file that qcow2 options name.
// After an error, files that did not exist before are removed. The caller checks that the
// backing file exists.
Task<Result<void>> create_image(std::string path, CreateOptions options, block::AsyncIo& io);

}  // namespace wick::image
