// A request of a FUSE client as it lies in a descriptor chain (virtio 1.2, 5.11.6.1), and its
// answer. Parsing has no state and touches no file.
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

// The arguments of a request behind its header, which are taken from front to back.
class FuseArguments {
 public:
  explicit FuseArguments(std::span<const std::byte> bytes = {}) : bytes_(bytes) {}

  // Each take returns false if the arguments are too short, and then takes nothing.
  template <typename T>
  bool take(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return take_prefix(value, sizeof(T));
  }
  // Takes the first `size_bytes` of a structure that newer clients have made longer; the rest of
  // `value` is zero.
  template <typename T>
  bool take_prefix(T& value, size_t size_bytes) {
    if (bytes_.size() < size_bytes || size_bytes > sizeof(T)) return false;
    value = T{};
    std::memcpy(&value, bytes_.data(), size_bytes);
    bytes_ = bytes_.subspan(size_bytes);
    return true;
  }
  // A name, without its NUL.
  bool take(std::string_view& name);
  std::span<const std::byte> rest() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

struct FuseRequest {
  // The longest arguments of a request other than FUSE_WRITE: an extended attribute with its
  // name and value. A FUSE_BATCH_FORGET of the kernel is shorter.
  static constexpr size_t kMaxArgumentBytes = (64 << 10) + 4096;

  fuse_in_header header{};
  FuseArguments arguments() const { return FuseArguments(argument_bytes); }
  std::vector<std::byte> argument_bytes;  // copied from guest memory; not the data of FUSE_WRITE
  std::vector<iovec> data;                // of FUSE_WRITE, in guest memory

  // Returns nothing if there is no header, or not as much as it claims. If the arguments are too
  // long, returns the request with too_long.
  static std::optional<FuseRequest> parse(std::span<const iovec> readable);
  bool too_long = false;
};

// The answer to one request, in the buffers of its chain.
class FuseReply {
 public:
  explicit FuseReply(std::span<const iovec> writable)
      : writable_(writable), room_bytes_(total_bytes(writable)) {}

  // The number of bytes that fit behind the fuse_out_header; 0 if even that does not fit.
  size_t room_bytes() const {
    return room_bytes_ < sizeof(fuse_out_header) ? 0 : room_bytes_ - sizeof(fuse_out_header);
  }
  // Where the data of FUSE_READ goes; at most `size_bytes`.
  std::vector<iovec> data_buffers(size_t size_bytes) const {
    return slice(writable_, sizeof(fuse_out_header), size_bytes);
  }

  // Each of these writes the whole answer, once, and returns the number of bytes that it has
  // written, or 0 if the chain has no room for an answer.
  uint32_t error(uint64_t unique, int code) const;
  // The data is in data_buffers() already.
  uint32_t data(uint64_t unique, size_t size_bytes) const;
  // EINVAL in place of an answer that does not fit.
  uint32_t payload(uint64_t unique, std::span<const std::byte> bytes) const;

 private:
  void write(size_t offset, std::span<const std::byte> bytes) const;

  std::span<const iovec> writable_;
  size_t room_bytes_;
};

}  // namespace wick::virtio
