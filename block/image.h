// Opens a disk image and its backing files as one disk.
//
// The format is the one that the user gave, or else the one whose magic the file has. A file
// without a magic is a raw disk, but if its name has the suffix of another format, opening fails.
//
// Thread rule: as for Backend.
#pragma once

#include <memory>
#include <string>

#include "block/backend.h"
#include "block/image_chain.h"

namespace wick::block {

class Qcow2;

// `path` must be a regular file or a block device. Fails if the file seems to have a format that
// wick cannot read. Also opens the files that the image names (backing files, which are only
// read, and a data file), if options.names allows it; relative names start at the image's folder.
Task<Result<std::unique_ptr<Backend>>> open_image(std::string path, ImageOptions options,
                                                  AsyncIo& io);

// As open_image(), but fails unless the image is qcow2.
Task<Result<std::unique_ptr<Qcow2>>> open_qcow2(std::string path, ImageOptions options,
                                                AsyncIo& io);

// Flushes a disk for the last time before it is closed. The error's text says that data is lost.
Task<Result<void>> final_flush(Backend& disk);

}  // namespace wick::block
