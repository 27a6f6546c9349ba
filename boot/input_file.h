// A kernel or initrd file on the host: a regular file of known size, which can be read
// directly into guest memory.
//
// Thread rule: any thread.
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
  // Fails unless `path` is a regular file. Never blocks, even if it is a FIFO.
  static Result<InputFile> open(const std::string& path);
  // `path` is the file's name for the user; messages add `note`.
  static Result<InputFile> adopt(Fd fd, std::string path, const std::string& note = "");

  const std::string& path() const { return path_; }
  const std::string& name() const { return name_; }  // for messages
  uint64_t size_bytes() const { return size_bytes_; }

  int fd() const { return fd_.get(); }
  // The same file, as if it ended after `size_bytes`, which must not be more than it has.
  InputFile first(uint64_t size_bytes) && {
    return InputFile(std::move(fd_), std::move(path_), std::move(name_), size_bytes);
  }

  // Reads `to.size()` bytes at `offset`; an error if the file ends earlier.
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
