// Base of disks that can only be read.
#pragma once

#include <cerrno>
#include <string>

#include "block/backend.h"

namespace wick::image {

class ReadOnlyDisk : public block::Backend {
 public:
  bool read_only() const override { return true; }
  bool can_discard() const override { return false; }
  bool zeroes_fast(bool) const override { return false; }
  Task<Result<void>> write(uint64_t, std::span<const iovec>) override { return refuse(); }
  Task<Result<void>> flush() override { co_return Result<void>(); }
  Task<Result<void>> discard(uint64_t, uint64_t) override { return refuse(); }
  Task<Result<void>> write_zeroes(uint64_t, uint64_t, bool) override { return refuse(); }

 protected:
  explicit ReadOnlyDisk(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  Result<void> check_range(uint64_t offset, uint64_t length) const {
    if (offset > size_bytes() || length > size_bytes() - offset)
      return fail_errno(EINVAL, "{}: {:#x} + {:#x} is outside the disk", path_, offset, length);
    return {};
  }

 private:
  Task<Result<void>> refuse() const { co_return fail_errno(EROFS, "{}", path_); }

  const std::string path_;
};

}  // namespace wick::image
