#include "virtio/fuse_request.h"

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"

namespace wick::virtio {

static_assert(sizeof(fuse_in_header) == 40 && sizeof(fuse_out_header) == 16);

bool FuseArguments::take(std::string_view& name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  const size_t end = text.find('\0');
  if (end == text.npos) return false;
  name = text.substr(0, end);
  bytes_ = bytes_.subspan(end + 1);
  return true;
}

std::optional<FuseRequest> FuseRequest::parse(std::span<const iovec> readable) {
  FuseRequest request;
  BufferCursor cursor(readable);
  std::array<std::byte, sizeof(fuse_in_header)> header;
  if (cursor.read(header) != header.size()) return std::nullopt;
  std::memcpy(&request.header, header.data(), header.size());
  const size_t length = request.header.len;
  if (length < header.size() || length > total_bytes(readable)) return std::nullopt;

  size_t argument_size = length - header.size();
  if (request.header.opcode == FUSE_WRITE) {
    argument_size = std::min(argument_size, sizeof(fuse_write_in));
    const size_t start = header.size() + argument_size;
    request.data = slice(readable, start, length - start);
  }
  if (argument_size > kMaxArgumentBytes) {
    request.too_long = true;
    return request;
  }
  request.argument_bytes.resize(argument_size);
  cursor.read(request.argument_bytes);
  return request;
}

void FuseReply::write(size_t offset, std::span<const std::byte> bytes) const {
  for (const iovec& part : slice(writable_, offset, bytes.size())) {
    std::memcpy(part.iov_base, bytes.data(), part.iov_len);
    bytes = bytes.subspan(part.iov_len);
  }
}

uint32_t FuseReply::error(uint64_t unique, int code) const {
  const fuse_out_header header{.len = sizeof(header), .error = -code, .unique = unique};
  if (room_bytes_ < sizeof(header)) return 0;
  write(0, as_bytes(&header, sizeof(header)));
  return header.len;
}

uint32_t FuseReply::data(uint64_t unique, size_t size_bytes) const {
  if (room_bytes_ < sizeof(fuse_out_header) || size_bytes > room_bytes() ||
      size_bytes > UINT32_MAX - sizeof(fuse_out_header))
    return error(unique, EINVAL);
  const fuse_out_header header{
      .len = static_cast<uint32_t>(sizeof(header) + size_bytes), .error = 0, .unique = unique};
  write(0, as_bytes(&header, sizeof(header)));
  return header.len;
}

uint32_t FuseReply::payload(uint64_t unique, std::span<const std::byte> bytes) const {
  if (bytes.size() <= room_bytes()) write(sizeof(fuse_out_header), bytes);
  return data(unique, bytes.size());
}

}  // namespace wick::virtio
