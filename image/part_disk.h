// A part of a disk as a read-only disk, padded with zeroes to a multiple of 512 bytes.
//
// Thread rule: as for Backend.
#pragma once

#include <algorithm>

#include "base/buffers.h"
#include "base/bytes.h"
#include "block/file.h"
#include "image/read_only_disk.h"

namespace wick::image {

class PartDisk final : public ReadOnlyDisk {
 public:
  // The part must lie inside `disk`, which must outlive it.
  PartDisk(block::Backend& disk, uint64_t start, uint64_t length_bytes)
      : ReadOnlyDisk("a part"), disk_(disk), start_(start), length_bytes_(length_bytes) {}

  uint64_t size_bytes() const override { return align_up(length_bytes_, 512); }

  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    if (auto checked = check_range(offset, length); !checked) co_return checked;
    const uint64_t there = std::min(length, length_bytes_ - std::min(offset, length_bytes_));
    block::fill_zeroes(slice(buffers, there, length));
    if (there == 0) co_return Result<void>();
    const std::vector<iovec> part = slice(buffers, 0, there);
    co_return co_await disk_.read(start_ + offset, part);
  }

  Task<Result<block::Extent>> extent(uint64_t offset, uint64_t length) override {
    if (auto checked = check_range(offset, length); !checked) co_return failure(checked);
    if (offset >= length_bytes_)
      co_return block::Extent{.length_bytes = length, .zero = true, .data = false};
    co_return co_await disk_.extent(start_ + offset, std::min(length, length_bytes_ - offset));
  }

 private:
  block::Backend& disk_;
  const uint64_t start_;
  const uint64_t length_bytes_;
};

}  // namespace wick::image
