// A request of a FUSE client in a descriptor chain (virtio 1.2, 5.11.6.1), and its answer. Parsing
// has no state and accesses no file.
//
// Specification: <linux/fuse.h>. A request is a fuse_in_header, then a structure that depends on
// the opcode, then names that end with NUL, or data.
#pragma once

#include <linux/fuse.h>
#include <sys/uio.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/buffers.h"

namespace wick::virtio {

// The arguments of a request, which follow its header. They are taken from front to back.
class FuseArguments {
 public:
  explicit FuseArguments(std::span<const std::byte> bytes = {}) : bytes_(bytes) {}

  // All functions return false and take nothing if the arguments are too short.
  template <typename T>
  bool take(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return take_prefix(value, sizeof(T));
  }
  // Takes only the first `size_bytes` of a structure, because older clients send a shorter one. The
  // rest of `value` becomes zero.
  template <typename T>
  bool take_prefix(T& value, size_t size_bytes) {
    if (bytes_.size() < size_bytes || size_bytes > sizeof(T)) return false;
    value = T{};
    std::memcpy(&value, bytes_.data(), size_bytes);
    bytes_ = bytes_.subspan(size_bytes);
    return true;
  }
  // Takes a name that ends with NUL. `name` is without the NUL.
  bool take(std::string_view& name);
  std::span<const std::byte> rest() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

struct FuseRequest {
  // The maximum size of the arguments, without the data of FUSE_WRITE. The longest arguments are
  // those of FUSE_SETXATTR, with a name and a value; Linux's FUSE_BATCH_FORGET has shorter ones.
  static constexpr size_t kMaxArgumentBytes = (64 << 10) + 4096;

  fuse_in_header header{};
  FuseArguments arguments() const { return FuseArguments(argument_bytes); }
  std::vector<std::byte> argument_bytes;  // copied from guest memory, without FUSE_WRITE's data
  std::vector<iovec> data;                // the data of FUSE_WRITE, in guest memory

  // Returns nothing if there is no header, or if the chain is shorter than the header says. Sets
  // `too_long` if the arguments are longer than kMaxArgumentBytes.
  static std::optional<FuseRequest> parse(std::span<const iovec> readable);
  bool too_long = false;
};

// The answer to one request, in the buffers of its chain.
class FuseReply {
 public:
  explicit FuseReply(std::span<const iovec> writable)
      : writable_(writable), room_bytes_(total_bytes(writable)) {}

  // The number of bytes that fit behind the fuse_out_header; 0 if even the header does not fit.
  size_t room_bytes() const {
    return room_bytes_ < sizeof(fuse_out_header) ? 0 : room_bytes_ - sizeof(fuse_out_header);
  }
  // The buffers for the data of a FUSE_READ, of at most `size_bytes`.
  std::vector<iovec> data_buffers(size_t size_bytes) const {
    return slice(writable_, sizeof(fuse_out_header), size_bytes);
  }

  // The following functions write the answer. At most one of them may be called for a request. They
  // return the size of the answer in bytes; 0 if the chain has no room even for an error.

  // Writes an errno value; 0 is success without data.
  uint32_t error(uint64_t unique, int code) const;
  // Writes only the header of the answer to a FUSE_READ, whose data is in data_buffers() already.
  uint32_t data(uint64_t unique, size_t size_bytes) const;
  // Writes `bytes`, or the error EINVAL if they do not fit.
  uint32_t payload(uint64_t unique, std::span<const std::byte> bytes) const;

 private:
  void write(size_t offset, std::span<const std::byte> bytes) const;

  std::span<const iovec> writable_;
  size_t room_bytes_;
};

}  // namespace wick::virtio
