// Writes to descriptors that may accept only a part of the bytes at a time.
//
// Thread rule: none.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <string_view>

#include "base/bytes.h"

namespace wick {

// Writes all bytes. Returns 0, or an errno value; after an error some of the bytes may be written.
inline int write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return EIO;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return 0;
}

inline int write_all(int fd, std::string_view text) {
  return write_all(fd, as_bytes(text.data(), text.size()));
}

}  // namespace wick
