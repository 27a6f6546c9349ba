// What the commands on images need to know of their files, and a progress bar.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/image.h"
#include "image/copy.h"
#include "image/runner.h"

namespace wick::image {

// How a command opens the images that it reads: with every file that they name.
block::ImageOptions reading(std::optional<block::Format> format);
// And how it opens those that it writes: of what they name only the files in their folders
// (block/named_file.h), unless the user trusts them.
block::ImageOptions writing(std::optional<block::Format> format, bool trust_names);

// All that an image is read from: its backing files too, and their data files.
Result<std::vector<std::string>> files_of(ImageRunner& runner, const std::string& image,
                                          std::optional<block::Format> format);

// The one of `files` that is the same file as `path`; or empty.
std::string same_file(std::span<const std::string> files, const std::string& path);

// The name of the format. What a raw file is must be said: a guest could have
// written another format's magic into it (PITFALLS 21).
Result<std::string> format_by_magic(const std::string& path, block::AsyncIo& io);

// As qemu-img's: in steps of one in a hundred. `shown`: or nothing. With a rate, in
// bytes per second, it also holds the copy back.
CopyProgress progress(bool shown, uint64_t rate = 0);

}  // namespace wick::image
