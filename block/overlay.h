// Layers over a disk: temporary ones, whose file is gone when the process ends, and new images
// whose backing file the disk becomes.
//
// Thread rule: as for Backend.
#pragma once

#include <memory>
#include <string>

#include "block/async_io.h"
#include "block/backend.h"
#include "block/qcow2/qcow2.h"

namespace wick::block {

// `base` is only read. The file is in $TMPDIR, or else in /var/tmp, which unlike /tmp is
// rarely in memory. `cache_bytes`: as in Qcow2Options.
Task<Result<std::unique_ptr<Backend>>> open_overlay(std::unique_ptr<Backend> base,
                                                    uint64_t cache_bytes, AsyncIo& io);

// Creates a qcow2 image of `size_bytes` at `path`, which must not exist yet, whose header names
// the backing file. The caller must set the backing image (Qcow2::set_backing()).
struct SnapshotFile {
  std::string path;
  uint64_t size_bytes = 0;
  std::string backing_path = {};
  std::string backing_format = {};
  Cache cache = Cache::kWriteback;
};
Task<Result<std::unique_ptr<Qcow2>>> create_snapshot(SnapshotFile wanted, AsyncIo& io);

}  // namespace wick::block
