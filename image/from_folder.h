// Makes a file system of a folder in a new image, without root: wick image create --from DIR.
// mke2fs (e2fsprogs) makes and fills it (mke2fs(8), -d).
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "image/commands.h"

namespace wick::image {

// What a folder needs in an ext4 file system.
struct FolderUse {
  uint64_t data_bytes = 0;  // for files, in blocks of 4 KiB
  uint64_t inodes = 0;
};
Result<FolderUse> measure_folder(const std::string& folder);

// Returns the size of a disk on which a file system has room for the folder and some free space.
uint64_t disk_size_for(const FolderUse& use);

// Makes the image `create` with a file system of `create.folder`, and returns the disk's size. The
// image appears at its path when it is complete; after an error nothing has changed.
Result<uint64_t> create_from_folder(const ImageCreate& create);

}  // namespace wick::image
