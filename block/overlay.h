// A temporary layer over a disk. Writes go to an unlinked file, which is gone when the process
// ends.
//
// Thread rule: as for Backend.
#pragma once

#include <memory>

#include "block/async_io.h"
#include "block/backend.h"

namespace wick::block {

// `base` is only read. The file is in $TMPDIR, or else in /var/tmp, which unlike /tmp is
// rarely in memory. `cache_bytes`: as in Qcow2Options.
Task<Result<std::unique_ptr<Backend>>> open_overlay(std::unique_ptr<Backend> base,
                                                    uint64_t cache_bytes, AsyncIo& io);

}  // namespace wick::block
