#include "image/nbd_request.h"

#include <cerrno>

#include "base/bytes.h"

namespace wick::image {

namespace {

// The flags that a client may set. NBD_CMD_FLAG_FUA is valid for all commands ("Command flags").
uint32_t allowed_flags(uint16_t command, const NbdLimits& limits) {
  uint32_t flags = NBD_CMD_FLAG_FUA;
  if (command == NBD_CMD_READ && limits.structured) flags |= NBD_CMD_FLAG_DF;
  if (command == NBD_CMD_BLOCK_STATUS) flags |= NBD_CMD_FLAG_REQ_ONE;
  if (command == NBD_CMD_WRITE_ZEROES) {
    flags |= NBD_CMD_FLAG_NO_HOLE;
    if ((limits.flags & NBD_FLAG_SEND_FAST_ZERO) != 0) flags |= NBD_CMD_FLAG_FAST_ZERO;
  }
  return flags;
}

// Checks all but the flags and the range. Returns NBD_EINVAL for a command that the client was not
// offered.
uint32_t check_command(const NbdRequest& request, const NbdLimits& limits) {
  const bool read_only = (limits.flags & NBD_FLAG_READ_ONLY) != 0;
  switch (request.command) {
    case NBD_CMD_READ:
      return request.length_bytes > kNbdMaxDataBytes ? NBD_EINVAL : NBD_SUCCESS;
    case NBD_CMD_FLUSH:
      return NBD_SUCCESS;
    case NBD_CMD_WRITE:
      return read_only ? NBD_EPERM : NBD_SUCCESS;
    case NBD_CMD_TRIM:
      if (read_only) return NBD_EPERM;
      return (limits.flags & NBD_FLAG_SEND_TRIM) != 0 ? NBD_SUCCESS : NBD_EINVAL;
    case NBD_CMD_WRITE_ZEROES:
      return read_only ? NBD_EPERM : NBD_SUCCESS;
    case NBD_CMD_BLOCK_STATUS:
      // A reply has at least one descriptor, and none may be empty.
      return limits.allocation && request.length_bytes > 0 ? NBD_SUCCESS : NBD_EINVAL;
    default:
      return NBD_EINVAL;
  }
}

}  // namespace

std::optional<NbdRequest> NbdRequest::parse(std::span<const std::byte, kBytes> bytes) {
  if (load_be<uint32_t>(bytes) != NBD_REQUEST_MAGIC) return std::nullopt;
  const auto type = load_be<uint32_t>(bytes.subspan(4));
  return NbdRequest{.command = static_cast<uint16_t>(type),
                    .flags = type & 0xffff0000,
                    .cookie = load_be<uint64_t>(bytes.subspan(8)),
                    .offset_bytes = load_be<uint64_t>(bytes.subspan(16)),
                    .length_bytes = load_be<uint32_t>(bytes.subspan(24))};
}

uint32_t check_request(const NbdRequest& request, const NbdLimits& limits) {
  if ((request.flags & ~allowed_flags(request.command, limits)) != 0) return NBD_EINVAL;
  if (const uint32_t error = check_command(request, limits); error != NBD_SUCCESS) return error;
  // The offset and the length of a flush are reserved; nothing depends on them.
  if (request.command == NBD_CMD_FLUSH) return NBD_SUCCESS;
  const bool inside = request.offset_bytes <= limits.size_bytes &&
                      request.length_bytes <= limits.size_bytes - request.offset_bytes;
  if (inside) return NBD_SUCCESS;
  const bool writes = request.command == NBD_CMD_WRITE || request.command == NBD_CMD_WRITE_ZEROES;
  return writes ? NBD_ENOSPC : NBD_EINVAL;
}

uint32_t nbd_error_of(const Error& error) {
  switch (error.code) {
    case EPERM:
    case EROFS:
      return NBD_EPERM;
    case ENOMEM:
      return NBD_ENOMEM;
    case EINVAL:
      return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return NBD_ENOSPC;
    default:
      return NBD_EIO;
  }
}

std::string_view nbd_error_text(uint32_t error) {
  switch (error) {
    case NBD_EPERM:
      return "the export does not allow this";
    case NBD_ENOMEM:
      return "the server is out of memory";
    case NBD_EINVAL:
      return "the request is invalid or outside the export";
    case NBD_ENOSPC:
      return "no space left, or a write beyond the export's end";
    case NBD_ENOTSUP:
      return "this would not be fast";
    case NBD_ESHUTDOWN:
      return "the server is shutting down";
    default:
      return "the server could not access its disk image";
  }
}

std::string simple_reply(uint64_t cookie, uint32_t error) {
  std::string text;
  append_be<uint32_t>(text, NBD_REPLY_MAGIC);
  append_be(text, error);
  append_be(text, cookie);
  return text;
}

std::string chunk_header(uint64_t cookie, uint16_t type, uint32_t length_bytes, bool done) {
  std::string text;
  append_be(text, NBD_STRUCTURED_REPLY_MAGIC);
  append_be(text, static_cast<uint16_t>(done ? NBD_REPLY_FLAG_DONE : 0));
  append_be(text, type);
  append_be(text, cookie);
  append_be(text, length_bytes);
  return text;
}

std::string error_chunk(uint64_t cookie, uint32_t error) {
  const std::string_view sentence = nbd_error_text(error);
  std::string text =
      chunk_header(cookie, NBD_REPLY_TYPE_ERROR, static_cast<uint32_t>(6 + sentence.size()), true);
  append_be(text, error);
  append_be(text, static_cast<uint16_t>(sentence.size()));
  return text.append(sentence);
}

std::string data_chunk(uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes, bool done) {
  std::string text = chunk_header(cookie, NBD_REPLY_TYPE_OFFSET_DATA, 8 + length_bytes, done);
  append_be(text, offset_bytes);
  return text;
}

std::string hole_chunk(uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes, bool done) {
  std::string text = chunk_header(cookie, NBD_REPLY_TYPE_OFFSET_HOLE, 12, done);
  append_be(text, offset_bytes);
  append_be(text, length_bytes);
  return text;
}

std::string block_status_chunk(uint64_t cookie, std::span<const NbdDescriptor> descriptors) {
  std::string text = chunk_header(cookie, NBD_REPLY_TYPE_BLOCK_STATUS,
                                  static_cast<uint32_t>(4 + 8 * descriptors.size()), true);
  append_be(text, kNbdAllocationId);
  for (const NbdDescriptor& descriptor : descriptors) {
    append_be(text, descriptor.length_bytes);
    append_be(text, descriptor.status);
  }
  return text;
}

}  // namespace wick::image
