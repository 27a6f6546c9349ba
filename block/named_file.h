// The files that the header of an image names: its data file and its backing file.
// The image may be hostile, so by default a name leads only to regular files in the image's
// folder or below it; the user must allow every other file (PITFALLS 39).
#pragma once

#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "block/image_file.h"

namespace wick::block {

enum class NamedFileKind : uint8_t { kBacking, kData };

// named_file() returns the path of a file that `image` names; named_format() returns the format
// that `image` gives for it, or nullopt if it gives none.
Result<std::string> named_file(const std::string& image, std::string name);
Result<std::optional<Format>> named_format(const std::string& image, const std::string& name);

// The image that names a file.
struct NamingImage {
  std::string path;
  Fd pin;  // the image's open file: File::pin()
};

// Opens `path`, a named_file() of `image`, as options.names and options.read_only allow. Does not
// open FIFOs and devices just to find out their type. If only files in the image's folder are
// allowed, fails if another file is now at the image's path, because the folder may be another one,
// too.
Result<Fd> open_named_file(const NamingImage& image, NamedFileKind kind, const std::string& path,
                           const ImageOptions& options);

// Opens the file of a File::pin(). `path` is for messages.
Result<Fd> open_pinned_file(const Fd& pin, const std::string& path, bool read_only);

// Opens the file that the user gave as `path`: a regular file or a block device.
Result<Fd> open_given_file(const std::string& path, bool read_only);

}  // namespace wick::block
