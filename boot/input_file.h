// A kernel or an initrd on the host: a regular file of known size, read by
// offset and straight into guest memory.
//
// Thread rule: none of its own; reading changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick::boot {

class InputFile {
 public:
  // Never waits, whatever `path` names: what is not a regular file is refused.
  static Result<InputFile> open(const std::string& path);
  // `name` is for messages.
  static Result<InputFile> adopt(Fd fd, std::string name);

  const std::string& name() const { return name_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // Fills `to` from `offset` on; an error if the file ends before.
  Result<void> read(uint64_t offset, std::span<std::byte> to) const;

 private:
  InputFile(Fd fd, std::string name, uint64_t size_bytes)
      : fd_(std::move(fd)), name_(std::move(name)), size_bytes_(size_bytes) {}

  Fd fd_;
  std::string name_;
  uint64_t size_bytes_;
};

}  // namespace wick::boot
