// Layers over a disk: temporary ones, whose file is gone when the process ends, and new images,
// which get the disk as their backing file.
//
// Thread rule: as for Backend.
#pragma once

#include <memory>
#include <string>

#include "block/async_io.h"
#include "block/backend.h"
#include "block/qcow2/qcow2.h"

namespace wick::block {

// Opens a temporary layer over `base`, which is only read. The layer's file is in $TMPDIR, or else
// in /var/tmp, which unlike /tmp is rarely in memory. `cache_bytes`: as in Qcow2Options.
Task<Result<std::unique_ptr<Backend>>> open_overlay(std::unique_ptr<Backend> base,
                                                    uint64_t cache_bytes, AsyncIo& io);

// A new image with a backing file.
struct SnapshotFile {
  std::string path;
  uint64_t size_bytes = 0;
  std::string backing_path = {};
  std::string backing_format = {};
  Cache cache = Cache::kWriteback;
};
// Creates the qcow2 image `wanted`, at a path where no file may exist yet. Its header names the
// backing file, but the caller must set the backing image (Qcow2::set_backing()).
Task<Result<std::unique_ptr<Qcow2>>> create_snapshot(SnapshotFile wanted, AsyncIo& io);

}  // namespace wick::block
