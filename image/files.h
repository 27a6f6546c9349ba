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

// Options to open an image for reading, with all files that it names.
block::ImageOptions reading(std::optional<block::Format> format);
// Options to open an image for writing. Of the files that it names, only those in its folder
// are opened (block/named_file.h), unless `trust_names` is set.
block::ImageOptions writing(std::optional<block::Format> format, bool trust_names);

// All files that an image is read from: the image, its backing files, and their data files.
Result<std::vector<std::string>> files_of(block::IoThread& thread, const std::string& image,
                                          std::optional<block::Format> format);

// The path in `files` that leads to the same file as `path`; empty if there is none.
std::string same_file(std::span<const std::string> files, const std::string& path);

// The name of the format. Fails for a raw image, whose format must be given: a guest can
// write another format's magic into it (PITFALLS 21).
Result<std::string> format_by_magic(const std::string& path, block::AsyncIo& io);

// Prints progress as qemu-img does, in steps of 1%, if `shown`. Limits the copy to `rate`
// bytes per second, unless that is 0.
CopyProgress progress(bool shown, uint64_t rate = 0);

}  // namespace wick::image
