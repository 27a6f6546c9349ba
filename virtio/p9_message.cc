#include "virtio/p9_message.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <type_traits>

#include "base/bytes.h"

namespace wick::virtio::p9 {

namespace {

// Reads the fields of a message, one after the other. After the first field that is missing or not
// allowed, all further fields are zero or empty.
class Fields {
 public:
  explicit Fields(std::span<const std::byte> bytes) : rest_(bytes) {}

  uint8_t u8() { return integer<uint8_t>(); }
  uint16_t u16() { return integer<uint16_t>(); }
  uint32_t u32() { return integer<uint32_t>(); }
  uint64_t u64() { return integer<uint64_t>(); }

  // Reads length[2] text[length]. `too_long` is the error for a text longer than `max_bytes`.
  std::string_view text(size_t max_bytes = kMaxRequestBytes, int too_long = ENAMETOOLONG) {
    const auto bytes = take(u16());
    const std::string_view value(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (value.size() > max_bytes) return refuse(too_long), std::string_view();
    // The host's kernel would take only the text before the NUL.
    if (value.find('\0') != value.npos) return refuse(EINVAL), std::string_view();
    return value;
  }
  std::string_view name() { return text(kMaxNameBytes); }
  // ERANGE is the error of setxattr(2) for a long name.
  std::string_view xattr_name() { return text(kMaxNameBytes, ERANGE); }

  void refuse(int error) {
    if (error_ == 0) error_ = error;
    rest_ = {};
  }
  int error() const { return error_; }

 private:
  template <typename T>
  T integer() {
    return load_le<T>(take(sizeof(T)));
  }
  std::span<const std::byte> take(size_t size_bytes) {
    if (size_bytes > rest_.size()) return refuse(EPROTO), std::span<const std::byte>();
    const auto taken = rest_.first(size_bytes);
    rest_ = rest_.subspan(size_bytes);
    return taken;
  }

  std::span<const std::byte> rest_;
  int error_ = 0;
};

Walk walk(Fields& in) {
  Walk walk = {in.u32(), in.u32(), {}};
  const size_t count = in.u16();
  if (count > P9_MAXWELEM) in.refuse(EINVAL);
  for (size_t i = 0; i < count && in.error() == 0; ++i) walk.names.push_back(in.name());
  return walk;
}

// The initializers in braces are evaluated from left to right, so they read the fields in order.
Body parse_fields(uint8_t type, Fields& in) {
  switch (type) {
    case P9_TVERSION:
      return Version{in.u32(), in.text()};
    case P9_TAUTH:
      return Auth{};
    case P9_TATTACH:
      return Attach{in.u32(), in.u32(), in.text(), in.text(), in.u32()};
    case P9_TFLUSH:
      return Flush{in.u16()};
    case P9_TWALK:
      return walk(in);
    case P9_TLOPEN:
      return Open{in.u32(), in.u32()};
    case P9_TLCREATE:
      return Create{in.u32(), in.name(), in.u32(), in.u32(), in.u32()};
    case P9_TREAD:
      return Read{in.u32(), in.u64(), in.u32()};
    case P9_TREADDIR:
      return Readdir{in.u32(), in.u64(), in.u32()};
    case P9_TCLUNK:
      return Clunk{in.u32()};
    case P9_TREMOVE:
      return Remove{in.u32()};
    case P9_TSTATFS:
      return Statfs{in.u32()};
    case P9_TREADLINK:
      return Readlink{in.u32()};
    case P9_TGETATTR:
      return Getattr{in.u32(), in.u64()};
    case P9_TSETATTR:
      return Setattr{in.u32(), in.u32(), in.u32(), in.u32(), in.u32(),
                     in.u64(), in.u64(), in.u64(), in.u64(), in.u64()};
    case P9_TXATTRWALK:
      return Xattrwalk{in.u32(), in.u32(), in.xattr_name()};
    case P9_TXATTRCREATE:
      return Xattrcreate{in.u32(), in.xattr_name(), in.u64(), in.u32()};
    case P9_TFSYNC:
      return Fsync{in.u32(), in.u32()};
    case P9_TLOCK:
      return Lock{in.u32(), in.u8(), in.u32(), in.u64(), in.u64(), in.u32(), in.name()};
    case P9_TGETLOCK:
      return Getlock{in.u32(), in.u8(), in.u64(), in.u64(), in.u32(), in.name()};
    case P9_TLINK:
      return Link{in.u32(), in.u32(), in.name()};
    case P9_TMKDIR:
      return Mkdir{in.u32(), in.name(), in.u32(), in.u32()};
    case P9_TMKNOD:
      return Mknod{in.u32(), in.name(), in.u32(), in.u32(), in.u32(), in.u32()};
    case P9_TSYMLINK:
      return Symlink{in.u32(), in.name(), in.text(kMaxTargetBytes), in.u32()};
    case P9_TRENAME:
      return Rename{in.u32(), in.u32(), in.name()};
    case P9_TRENAMEAT:
      return Renameat{in.u32(), in.name(), in.u32(), in.name()};
    case P9_TUNLINKAT:
      return Unlinkat{in.u32(), in.name(), in.u32()};
    default:
      return Refused{EOPNOTSUPP};
  }
}

// Parses a Twrite. Its data follow the fields; their size is taken from the count and the chain,
// because Linux before 4.20 does not include it in the message's size.
Body parse_write(Fields& in, std::span<const iovec> readable, uint32_t msize) {
  const uint32_t fid = in.u32();
  const uint64_t offset = in.u64();
  const uint32_t count = in.u32();
  if (count > msize - kWriteHeaderBytes) return Refused{EMSGSIZE};
  Write write = {fid, offset, slice(readable, kWriteHeaderBytes, count)};
  if (total_bytes(write.data) != count) return Refused{EPROTO};
  return write;
}

}  // namespace

std::optional<Request> Request::parse(std::span<const iovec> readable, uint32_t msize) {
  BufferCursor cursor(readable);
  std::array<std::byte, kHeaderBytes> header{};
  if (cursor.read(header) < header.size()) return std::nullopt;
  const std::span<const std::byte> bytes(header);
  const auto size_bytes = load_le<uint32_t>(bytes.first(4));
  const auto type = load_le<uint8_t>(bytes.subspan(4, 1));
  Request request;
  request.tag = load_le<uint16_t>(bytes.subspan(5));

  const bool write = type == P9_TWRITE;
  if (size_bytes > msize || (!write && size_bytes > kMaxRequestBytes)) {
    request.body = Refused{EMSGSIZE};
    return request;
  }
  if (size_bytes < kHeaderBytes) {
    request.body = Refused{EPROTO};
    return request;
  }
  request.bytes.resize((write ? kWriteHeaderBytes : size_bytes) - kHeaderBytes);
  if (cursor.read(request.bytes) < request.bytes.size()) {
    request.body = Refused{EPROTO};
    return request;
  }
  Fields fields(request.bytes);
  request.body = write ? parse_write(fields, readable, msize) : parse_fields(type, fields);
  if (fields.error() != 0) request.body = Refused{fields.error()};
  return request;
}

size_t reply_room(const Body& body) {
  constexpr size_t kQidBytes = 13;
  struct Sizes {
    size_t operator()(const Attach&) const { return kHeaderBytes + kQidBytes; }
    size_t operator()(const Mkdir&) const { return kHeaderBytes + kQidBytes; }
    size_t operator()(const Mknod&) const { return kHeaderBytes + kQidBytes; }
    size_t operator()(const Symlink&) const { return kHeaderBytes + kQidBytes; }
    size_t operator()(const Open&) const { return kHeaderBytes + kQidBytes + 4; }
    size_t operator()(const Create&) const { return kHeaderBytes + kQidBytes + 4; }
    size_t operator()(const Walk& walk) const {
      return std::max(kErrorBytes, kHeaderBytes + 2 + kQidBytes * walk.names.size());
    }
    size_t operator()(const Xattrwalk&) const { return kHeaderBytes + 8; }
    size_t operator()(const Version&) const { return kHeaderBytes + 4 + 2 + 8; }
    size_t operator()(const Statfs&) const { return kHeaderBytes + 60; }
    size_t operator()(const Getattr&) const { return kHeaderBytes + 8 + kQidBytes + 12 + 15 * 8; }
  };
  return std::visit(
      [](const auto& request) {
        if constexpr (std::is_invocable_v<Sizes, decltype(request)>)
          return Sizes()(request);
        else
          return kErrorBytes;
      },
      body);
}

Reply Reply::error(int code) {
  Reply reply(P9_RLERROR);
  reply.u32(static_cast<uint32_t>(code));
  return reply;
}

Reply& Reply::text(std::string_view value) {
  value = value.substr(0, UINT16_MAX);
  return u16(static_cast<uint16_t>(value.size())).append(value.data(), value.size());
}

Reply& Reply::append(const void* data, size_t size_bytes) {
  const auto added = as_bytes(data, size_bytes);
  bytes_.insert(bytes_.end(), added.begin(), added.end());
  return *this;
}

std::span<const std::byte> Reply::finish(uint16_t tag, size_t data_bytes) {
  const std::span<std::byte> bytes(bytes_);
  store_le(bytes.first(4), static_cast<uint32_t>(bytes_.size() + data_bytes));
  store_le(bytes.subspan(5, 2), tag);
  return bytes_;
}

bool DirectoryEntries::add(const Qid& qid, uint64_t offset, uint8_t type, std::string_view name) {
  constexpr size_t kFixedBytes = 13 + 8 + 1 + 2;
  if (name.size() > UINT16_MAX || kFixedBytes + name.size() > max_bytes_ - bytes_.size())
    return false;
  const auto append = [&](const void* data, size_t size_bytes) {
    const auto added = as_bytes(data, size_bytes);
    bytes_.insert(bytes_.end(), added.begin(), added.end());
  };
  const auto length = static_cast<uint16_t>(name.size());
  append(&qid.type, 1);
  append(&qid.version, 4);
  append(&qid.path, 8);
  append(&offset, 8);
  append(&type, 1);
  append(&length, 2);
  append(name.data(), name.size());
  return true;
}

}  // namespace wick::virtio::p9
