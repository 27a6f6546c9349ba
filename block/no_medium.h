// The content of a drive without a disc: no bytes, and every access fails.
//
// Thread rule: as for Backend.
#pragma once

#include "block/backend.h"

namespace wick::block {

class NoMedium final : public Backend {
 public:
  uint64_t size_bytes() const override { return 0; }
  bool read_only() const override { return true; }
  bool can_discard() const override { return false; }
  bool zeroes_fast(bool) const override { return false; }
  Task<Result<void>> read(uint64_t, std::span<const iovec>) override { return refuse(); }
  Task<Result<void>> write(uint64_t, std::span<const iovec>) override { return refuse(); }
  Task<Result<void>> flush() override { co_return Result<void>(); }
  Task<Result<void>> discard(uint64_t, uint64_t) override { return refuse(); }
  Task<Result<void>> write_zeroes(uint64_t, uint64_t, bool) override { return refuse(); }

 private:
  static Task<Result<void>> refuse() { co_return fail_errno(ENOMEDIUM, "there is no disc"); }
};

}  // namespace wick::block
