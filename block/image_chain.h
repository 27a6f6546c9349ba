// Opens the files of an image and of its backing files. This is the only code that opens files
// which the header of an image names.
//
// Thread rule: as for File.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "block/image_file.h"

namespace wick::block {

constexpr size_t kMaxBackingFiles = 200;

// The files of one image of a chain.
struct ImageLayer {
  ImageFile image;
  std::unique_ptr<File> data;     // the image's data file, if it has one
  bool format_was_given = false;  // by the user, or by the image above it
};

// Opens all files from which the image at `path` is read. The first element of the result is the
// image; its backing files follow from the top down, opened only for reading.
Task<Result<std::vector<ImageLayer>>> open_layers(std::string path, ImageOptions options,
                                                  AsyncIo& io);

}  // namespace wick::block
