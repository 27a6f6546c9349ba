// Base of readers for formats that map the disk in blocks of equal size. The block map stays in the
// file, and only the needed part of it is read, so a header that claims a huge disk costs no
// memory.
//
// Thread rule: as for Backend.
#pragma once

#include <memory>
#include <vector>

#include "block/file.h"
#include "image/read_only_disk.h"

namespace wick::image {

class MappedSource : public ReadOnlyDisk {
 public:
  uint64_t size_bytes() const override { return size_bytes_; }
  Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) override;
  Task<Result<block::Extent>> extent(uint64_t offset_bytes, uint64_t length_bytes) override;

  const block::File& file() const { return *file_; }

 protected:
  struct Block {
    enum class Kind : uint8_t { kAbsent, kZero, kData, kCompressed };
    Kind kind = Kind::kAbsent;
    uint64_t offset_bytes = 0;  // in the file; for kData and kCompressed
  };

  // `block_bytes` must be a power of two.
  MappedSource(std::unique_ptr<block::File> file, uint64_t size_bytes, uint64_t block_bytes)
      : ReadOnlyDisk(file->path()),
        file_(std::move(file)),
        size_bytes_(size_bytes),
        block_bytes_(block_bytes) {}

  // Locates blocks from `first` on: at least one, at most `most`. A kData block must lie
  // inside the file.
  virtual Task<Result<std::vector<Block>>> find(uint64_t first, uint64_t most) = 0;
  // Unpacks a kCompressed block.
  virtual Task<Result<void>> unpack(uint64_t offset_bytes, std::span<std::byte> block);
  // Returns whether holes in the file count as zeroes.
  virtual bool tells_holes() const { return false; }

  // Reads an array of little-endian values from the file.
  Task<Result<std::vector<uint32_t>>> load(uint64_t offset_bytes, uint64_t count);
  // Returns whether the range is inside the file.
  bool in_file(uint64_t offset_bytes, uint64_t length_bytes) const {
    const uint64_t end = file_->size_bytes();
    return offset_bytes <= end && length_bytes <= end - offset_bytes;
  }

  const std::unique_ptr<block::File> file_;
  const uint64_t size_bytes_;
  const uint64_t block_bytes_;
};

}  // namespace wick::image
