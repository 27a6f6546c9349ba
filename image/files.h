// Helpers of the image commands: how to open images, which files they use, a progress bar.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/image.h"
#include "block/io_thread.h"
#include "image/copy.h"

namespace wick::image {

// Returns options to open an image for reading, with all files that it names.
block::ImageOptions reading(std::optional<block::Format> format);
// Returns options to open an image for writing. Of the files that the image names, only those in
// its folder are opened (block/named_file.h), unless `trust_names` is set.
block::ImageOptions writing(std::optional<block::Format> format, bool trust_names);

// Returns all files from which an image is read: the image, its backing files, and their data
// files.
Result<std::vector<std::string>> files_of(block::IoThread& thread, const std::string& image,
                                          std::optional<block::Format> format);

// Returns the path in `files` that leads to the same file as `path`; empty if there is none.
std::string same_file(std::span<const std::string> files, const std::string& path);

// Returns the name of the image's format. Fails for a raw image, whose format the user must give: a
// guest can write another format's magic into it (PITFALLS 21).
Result<std::string> format_by_magic(const std::string& path, block::AsyncIo& io);

// Returns a function that prints progress as qemu-img does, in steps of 1%, if `shown`. It also
// limits the copy to `rate` bytes per second, unless that is 0.
CopyProgress progress(bool shown, uint64_t rate = 0);

}  // namespace wick::image
