// A file on the host that is an input of a boot, for instance a kernel or an initrd: a regular,
// non-empty file of known size, which can be read directly into guest memory.
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
  // Fails unless `path` is a regular file that is not empty. Never blocks, even if `path` is a
  // FIFO.
  static Result<InputFile> open(const std::string& path);
  // Takes over an open file. `path` is its name for the user; messages show `path` and then `note`.
  static Result<InputFile> adopt(Fd fd, std::string path, const std::string& note = "");

  const std::string& path() const { return path_; }
  const std::string& name() const { return name_; }  // the name for messages
  uint64_t size_bytes() const { return size_bytes_; }

  int fd() const { return fd_.get(); }
  // Turns this object into an InputFile of only the first `size_bytes` of the file. The file must
  // have at least that many bytes.
  InputFile first(uint64_t size_bytes) && {
    return InputFile(std::move(fd_), std::move(path_), std::move(name_), size_bytes);
  }

  // Reads `to.size()` bytes at `offset`. Fails if the file ends before that.
  Result<void> read(uint64_t offset, std::span<std::byte> to) const;

 private:
  InputFile(Fd fd, std::string path, std::string name, uint64_t size_bytes)
      : fd_(std::move(fd)),
        path_(std::move(path)),
        name_(std::move(name)),
        size_bytes_(size_bytes) {}

  Fd fd_;
  std::string path_;
  std::string name_;
  uint64_t size_bytes_;
};

}  // namespace wick::boot
