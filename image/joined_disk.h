// Several disks, concatenated into one read-only disk.
//
// Thread rule: as for Backend.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/buffers.h"
#include "block/file.h"
#include "image/read_only_disk.h"

namespace wick::image {

class JoinedDisk final : public ReadOnlyDisk {
 public:
  // `disks` must outlive it, except those in `owned`.
  explicit JoinedDisk(std::vector<block::Backend*> disks,
                      std::vector<std::unique_ptr<block::Backend>> owned = {})
      : ReadOnlyDisk("the disks"), disks_(std::move(disks)), owned_(std::move(owned)) {
    for (const block::Backend* const disk : disks_) {
      size_bytes_ += disk->size_bytes();
      ends_.push_back(size_bytes_);
    }
  }

  uint64_t size_bytes() const override { return size_bytes_; }

  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    if (auto checked = check_range(offset, length); !checked) co_return checked;
    for (uint64_t done = 0; done < length;) {
      const Place place = find(offset + done);
      const uint64_t step = std::min(length - done, place.length_bytes);
      const std::vector<iovec> part = slice(buffers, done, step);
      if (auto got = co_await place.disk.read(place.offset_bytes, part); !got) co_return got;
      done += step;
    }
    co_return Result<void>();
  }

  Task<Result<block::Extent>> extent(uint64_t offset, uint64_t length) override {
    const Place place = find(offset);
    return place.disk.extent(place.offset_bytes, std::min(length, place.length_bytes));
  }

 private:
  struct Place {
    block::Backend& disk;
    uint64_t offset_bytes;
    uint64_t length_bytes;  // up to the disk's end
  };
  // `offset` must be inside the disk.
  Place find(uint64_t offset) const {
    const auto index = static_cast<size_t>(std::ranges::upper_bound(ends_, offset) - ends_.begin());
    const uint64_t start = ends_[index] - disks_[index]->size_bytes();
    return {*disks_[index], offset - start, ends_[index] - offset};
  }

  const std::vector<block::Backend*> disks_;
  const std::vector<std::unique_ptr<block::Backend>> owned_;
  std::vector<uint64_t> ends_;
  uint64_t size_bytes_ = 0;
};

}  // namespace wick::image
