// Copies whole disks: reads what the sources hold and gives the target all of
// it that is not zeroes, many pieces at once.
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

// What a copy goes to. Pieces come in any order, none twice.
class CopyTarget {
 public:
  virtual ~CopyTarget() = default;

  // Pieces start and end at multiples of this power of two, but for the disk's
  // end; zeroes are told apart in such units.
  virtual uint64_t granule_bytes() const = 0;
  // A new target reads as zeroes wherever nothing is written, and is not told.
  virtual bool is_new() const = 0;
  virtual Task<Result<void>> write(uint64_t offset_bytes, std::span<const std::byte> piece) = 0;
  virtual Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // After the last piece.
  virtual Task<Result<void>> finish() = 0;
};

// Targets; what they are given must outlive them.
std::unique_ptr<CopyTarget> copy_to(block::Backend& disk, uint64_t granule_bytes, bool is_new);
// Compresses on `workers`. `image` has no data file.
std::unique_ptr<CopyTarget> copy_compressed_to(block::Qcow2& image, Workers& workers, bool is_new);

using CopyProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

struct CopyRules {
  bool fill = false;  // zeroes are written as data is, so that they get space
  // Takes what cannot be read for zeroes, and is told of it.
  std::function<void(uint64_t offset_bytes, const Error& error)> salvage = {};
};

// The sources make one disk, one behind the other; `target` has at least its size.
// What a source leaves to a backing file that is not its own is not copied.
Task<Result<void>> copy_disks(std::vector<block::Backend*> sources, CopyTarget& target,
                              CopyProgress progress, CopyRules rules = {});

}  // namespace wick::image
