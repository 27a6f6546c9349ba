// Keeps programs out of one another's images by locks on the open file, in QEMU's
// byte ranges, so that QEMU's tools and wick respect each other too (QEMU's
// block/file-posix.c, "locking"; fcntl(2), "Open file description locks").
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick::block {

// For as long as the file's description is open: a writer has the image for
// itself, readers share it. Does nothing where the file system has no such locks.
// EAGAIN when another open of the file forbids it, of this process too.
Result<void> lock_image(const Fd& file, bool read_only, const std::string& path);

}  // namespace wick::block
