// Base of new images in formats with one flat map. Blocks are appended to the file as they
// come, and the map is written at the end. The header is written last: an unfinished image
// has none.
//
// Thread rule: as for CopyTarget.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "block/file.h"
#include "image/copy.h"

namespace wick::image {

class MappedTarget : public CopyTarget {
 public:
  uint64_t granule_bytes() const override { return block_bytes_; }
  bool is_new() const override { return true; }

  Task<Result<void>> write(uint64_t offset, std::span<const std::byte> piece) override {
    const uint64_t first = added_;
    const uint64_t count = (piece.size() + block_bytes_ - 1) / block_bytes_;
    if (count > max_blocks_ - added_)
      co_return fail_errno(EFBIG, "{}: the format holds no more than {} bytes of data",
                           file_.path(), max_blocks_ * block_bytes_);
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t block = offset / block_bytes_ + i;
      auto& part = parts_[block / kPartBlocks];
      part.resize(kPartBlocks);
      part[block % kPartBlocks] = static_cast<uint32_t>(++added_);
    }
    const iovec buffer = block::to_iovec(piece);
    co_return co_await file_.write(data_offset_ + first * block_bytes_, {&buffer, 1});
  }
  Task<Result<void>> write_zeroes(uint64_t, uint64_t) override { co_return Result<void>(); }

  Task<Result<void>> finish() override {
    // The last block may be incomplete.
    if (auto done = file_.truncate(data_offset_ + added_ * block_bytes_); !done) co_return done;
    if (auto done = co_await write_tables(); !done) co_return done;
    co_return co_await file_.sync();
  }

 protected:
  // The map is kept in parts of this many blocks; parts without data are absent.
  static constexpr uint64_t kPartBlocks = 512;
  using Part = std::vector<uint32_t>;  // the block's number in the file, from 1; 0: no block

  MappedTarget(block::File& file, uint64_t size_bytes, uint64_t block_bytes, uint64_t data_offset,
               uint64_t max_blocks)
      : file_(file),
        size_bytes_(size_bytes),
        block_bytes_(block_bytes),
        data_offset_(data_offset),
        max_blocks_(max_blocks) {}

  virtual Task<Result<void>> write_tables() = 0;

  Task<Result<void>> put(uint64_t offset, std::span<const std::byte> bytes) {
    const iovec buffer = block::to_iovec(bytes);
    co_return co_await file_.write(offset, {&buffer, 1});
  }

  block::File& file_;
  const uint64_t size_bytes_;
  const uint64_t block_bytes_;
  const uint64_t data_offset_;
  const uint64_t max_blocks_;  // the maximum number of blocks with data
  std::map<uint64_t, Part> parts_;
  uint64_t added_ = 0;
};

}  // namespace wick::image
