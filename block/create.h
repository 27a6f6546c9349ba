// New image files, of the formats that open_image() knows.
//
// Thread rule: as for File.
#pragma once

#include <string>
#include <variant>

#include "block/image.h"
#include "block/qcow2_create.h"

namespace wick::block {

struct RawCreateOptions {
  uint64_t size_bytes = 0;
  Preallocation preallocation = Preallocation::kOff;  // not kMetadata
};

using CreateOptions = std::variant<RawCreateOptions, Qcow2CreateOptions>;

// Replaces what is at `path`, which is a regular file or nothing; what could not be
// finished is removed. The data file that qcow2 options name is made
// with it, beside it. Whether the backing file is there is the caller's to look.
Task<Result<void>> create_image(std::string path, CreateOptions options, AsyncIo& io);

}  // namespace wick::block
