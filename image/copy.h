// Copies whole disks: reads the data of the sources and writes all that is not zero to the
// target, several pieces at once.
//
// Thread rule: the EventLoop of the sources and of the target.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "block/backend.h"
#include "block/qcow2/qcow2.h"
#include "image/workers.h"

namespace wick::image {

// The destination of a copy. Pieces come in any order, each only once.
class CopyTarget {
 public:
  virtual ~CopyTarget() = default;

  // Returns a power of two. Pieces start and end at multiples of this number, or at the disk's end.
  // Zeroes are detected in units of this size.
  virtual uint64_t granule_bytes() const = 0;
  // Returns whether the target reads as zeroes where nothing was written. If so, write_zeroes() is
  // not called.
  virtual bool is_new() const = 0;
  virtual Task<Result<void>> write(uint64_t offset_bytes, std::span<const std::byte> piece) = 0;
  virtual Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Called after the last piece.
  virtual Task<Result<void>> finish() = 0;
};

// Makes a target that writes to `disk`. The arguments of copy_to() and of copy_compressed_to() must
// outlive the target.
std::unique_ptr<CopyTarget> copy_to(block::Backend& disk, uint64_t granule_bytes, bool is_new);
// Makes a target that compresses clusters on `workers`. `image` must not have a data file.
std::unique_ptr<CopyTarget> copy_compressed_to(block::Qcow2& image, Workers& workers, bool is_new);

using CopyProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

struct CopyRules {
  bool fill = false;  // write zeroes like data, so that space is allocated for them
  // If set, unreadable parts are copied as zeroes and reported here.
  std::function<void(uint64_t offset_bytes, const Error& error)> salvage = {};
};

// Copies the sources, one behind the other, to `target`, which must be at least as large as all of
// them. Parts that a top_layer() leaves to its backing file are not copied.
Task<Result<void>> copy_disks(std::vector<block::Backend*> sources, CopyTarget& target,
                              CopyProgress progress, CopyRules rules = {});

}  // namespace wick::image
