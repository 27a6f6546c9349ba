// Locks images against use by other programs. The locks are on the open file, in QEMU's byte
// ranges, so that QEMU's tools and wick respect each other (QEMU's block/file-posix.c,
// "locking"; fcntl(2), "Open file description locks").
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick::block {

// Locks an open image until unlock_image(): a writer has the image alone, and readers share it.
// Does nothing if the file system has no such locks. Fails with EAGAIN if another open file
// description, which may be of this process, has a conflicting lock.
Result<void> lock_image(const Fd& file, bool read_only, const std::string& path);

// Releases the locks. close(2) alone may release them late: io_uring drops its requests' references
// to the open file only some time after they complete.
void unlock_image(const Fd& file);

}  // namespace wick::block
