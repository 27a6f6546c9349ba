// The command line can name an image by its path, as file:PATH, or as in qemu-img by options,
// in JSON or after --image-opts. Names inside images are paths only.
#pragma once

#include <optional>
#include <string>

#include "image/commands.h"

namespace wick::cli {

struct ImageName {
  std::string path;
  std::optional<image::ImageFormat> format;  // if the name tells it
};

// `by_options`: --image-opts was given.
Result<ImageName> parse_image_name(const std::string& text, bool by_options);

// How files are cached, by a name that the option's form has checked. Every command flushes at its
// end, so writethrough does not differ from writeback.
block::Cache cache_of_name(const std::string& mode);

}  // namespace wick::cli
