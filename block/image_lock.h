// Keeps programs out of one another's images by locks on the open file, in QEMU's
// byte ranges, so that QEMU's tools and wick respect each other too (QEMU's
// block/file-posix.c, "locking"; fcntl(2), "Open file description locks").
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick::block {

// Until unlock_image(): a writer has the image for itself, readers share it. Does nothing where the
// file system has no such locks. EAGAIN when another open of the file forbids it, of this process
// too.
Result<void> lock_image(const Fd& file, bool read_only, const std::string& path);

// Gives up what lock_image() took, which close(2) alone does not do at once: the kernel drops
// the references of an io_uring's requests to the open file some time after they complete.
void unlock_image(const Fd& file);

}  // namespace wick::block
