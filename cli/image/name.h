// Names of images on the command line: a path, file:PATH, or, as in qemu-img, options, either in
// JSON or with --image-opts. Inside an image, the names of other images are paths only.
#pragma once

#include <optional>
#include <string>

#include "image/commands.h"

namespace wick::cli {

struct ImageName {
  std::string path;
  std::optional<image::ImageFormat> format;  // nullopt: the name does not give the format
};

// Parses a name. `by_options` is true if --image-opts was given.
Result<ImageName> parse_image_name(const std::string& text, bool by_options);

// Returns the cache mode of a name that the option's form has already checked. writethrough means
// writeback here, because every command flushes at its end.
block::Cache cache_of_name(const std::string& mode);

}  // namespace wick::cli
