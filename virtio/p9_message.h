// The messages of 9P2000.L: requests (T-messages) parsed from the buffers of a chain, and
// replies (R-messages) as bytes. Nothing here accesses a file.
//
// Specification: diod's protocol.md; Plan 9, section 5 for what 9P2000.L took from 9P2000. The
// constants have the names of Linux's <net/9p/9p.h>, which is not exported to user space.
//
// Thread rule: pure functions and values.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/buffers.h"

namespace wick::virtio::p9 {

enum MessageType : uint8_t {
  P9_RLERROR = 7,
  P9_TSTATFS = 8,
  P9_TLOPEN = 12,
  P9_TLCREATE = 14,
  P9_TSYMLINK = 16,
  P9_TMKNOD = 18,
  P9_TRENAME = 20,
  P9_TREADLINK = 22,
  P9_TGETATTR = 24,
  P9_TSETATTR = 26,
  P9_TXATTRWALK = 30,
  P9_TXATTRCREATE = 32,
  P9_TREADDIR = 40,
  P9_TFSYNC = 50,
  P9_TLOCK = 52,
  P9_TGETLOCK = 54,
  P9_TLINK = 70,
  P9_TMKDIR = 72,
  P9_TRENAMEAT = 74,
  P9_TUNLINKAT = 76,
  P9_TVERSION = 100,
  P9_TAUTH = 102,
  P9_TATTACH = 104,
  P9_TFLUSH = 108,
  P9_TWALK = 110,
  P9_TREAD = 116,
  P9_TWRITE = 118,
  P9_TCLUNK = 120,
  P9_TREMOVE = 122,
};

constexpr uint16_t P9_NOTAG = 0xffff;
constexpr uint32_t P9_NOFID = 0xffffffff;
constexpr uint32_t P9_NONUNAME = 0xffffffff;
constexpr size_t P9_MAXWELEM = 16;
// Qid::type
constexpr uint8_t P9_QTDIR = 0x80, P9_QTSYMLINK = 0x02, P9_QTFILE = 0x00;
// Tgetattr: the requested fields. Rgetattr: the valid fields.
constexpr uint64_t P9_STATS_BASIC = 0x7ff, P9_STATS_BTIME = 0x800, P9_STATS_GEN = 0x1000;
// Tsetattr: the fields to set.
constexpr uint32_t P9_ATTR_MODE = 1 << 0, P9_ATTR_UID = 1 << 1, P9_ATTR_GID = 1 << 2,
                   P9_ATTR_SIZE = 1 << 3, P9_ATTR_ATIME = 1 << 4, P9_ATTR_MTIME = 1 << 5,
                   P9_ATTR_CTIME = 1 << 6, P9_ATTR_ATIME_SET = 1 << 7, P9_ATTR_MTIME_SET = 1 << 8;
// The type of Tlock and Tgetlock, the flags of Tlock, and the status of Rlock.
constexpr uint8_t P9_LOCK_TYPE_RDLCK = 0, P9_LOCK_TYPE_WRLCK = 1, P9_LOCK_TYPE_UNLCK = 2;
constexpr uint32_t P9_LOCK_FLAGS_BLOCK = 1;
constexpr uint8_t P9_LOCK_SUCCESS = 0, P9_LOCK_BLOCKED = 1, P9_LOCK_ERROR = 2;
// The flags of Tunlinkat.
constexpr uint32_t P9_DOTL_AT_REMOVEDIR = 0x200;
// The flags of Tlopen and Tlcreate are those of open(2) on x86-64.

constexpr size_t kHeaderBytes = 7;        // size[4] type[1] tag[2]
constexpr size_t kErrorBytes = 11;        // a whole Rlerror
constexpr size_t kIoHeaderBytes = 11;     // the part of Rread and Rreaddir before the data
constexpr size_t kWriteHeaderBytes = 23;  // the part of Twrite before the data
// The limits of msize. Linux requests at most 500 KiB over virtio, and refuses less than 4 KiB.
constexpr uint32_t kMaxMessageBytes = 512 << 10;
constexpr uint32_t kMinMessageBytes = 4096;
// The maximum size of a request, without the data of Twrite. The largest request that Linux sends
// is Tsymlink, with 4369 bytes.
constexpr size_t kMaxRequestBytes = 16 << 10;
constexpr size_t kMaxNameBytes = 255;     // NAME_MAX, XATTR_NAME_MAX
constexpr size_t kMaxTargetBytes = 4095;  // the target of a symbolic link

// The requests. Each string_view points into Request::bytes and contains no NUL. Whether a name is
// valid for a file is not checked here.
struct Version {
  uint32_t msize = 0;
  std::string_view version;
};
struct Auth {};
struct Attach {
  uint32_t fid = 0, afid = 0;
  std::string_view uname, aname;
  uint32_t n_uname = 0;
};
struct Flush {
  uint16_t old_tag = 0;
};
struct Walk {
  uint32_t fid = 0, new_fid = 0;
  std::vector<std::string_view> names;  // at most P9_MAXWELEM
};
struct Open {
  uint32_t fid = 0, flags = 0;
};
struct Create {
  uint32_t fid = 0;
  std::string_view name;
  uint32_t flags = 0, mode = 0, gid = 0;
};
struct Read {
  uint32_t fid = 0;
  uint64_t offset = 0;
  uint32_t count = 0;
};
struct Write {
  uint32_t fid = 0;
  uint64_t offset = 0;
  std::vector<iovec> data;  // in guest RAM
};
struct Readdir {
  uint32_t fid = 0;
  uint64_t offset = 0;
  uint32_t count = 0;
};
struct Clunk {
  uint32_t fid = 0;
};
struct Remove {
  uint32_t fid = 0;
};
struct Statfs {
  uint32_t fid = 0;
};
struct Readlink {
  uint32_t fid = 0;
};
struct Getattr {
  uint32_t fid = 0;
  uint64_t mask = 0;
};
struct Setattr {
  uint32_t fid = 0, valid = 0, mode = 0, uid = 0, gid = 0;
  uint64_t size = 0, atime_sec = 0, atime_nsec = 0, mtime_sec = 0, mtime_nsec = 0;
};
struct Xattrwalk {
  uint32_t fid = 0, new_fid = 0;
  std::string_view name;  // empty: the list of names
};
struct Xattrcreate {
  uint32_t fid = 0;
  std::string_view name;
  uint64_t size = 0;
  uint32_t flags = 0;
};
struct Fsync {
  uint32_t fid = 0, datasync = 0;
};
struct Lock {
  uint32_t fid = 0;
  uint8_t type = 0;
  uint32_t flags = 0;
  uint64_t start = 0, length = 0;
  uint32_t proc_id = 0;
  std::string_view client_id;
};
struct Getlock {
  uint32_t fid = 0;
  uint8_t type = 0;
  uint64_t start = 0, length = 0;
  uint32_t proc_id = 0;
  std::string_view client_id;
};
struct Link {
  uint32_t dfid = 0, fid = 0;
  std::string_view name;
};
struct Mkdir {
  uint32_t dfid = 0;
  std::string_view name;
  uint32_t mode = 0, gid = 0;
};
struct Mknod {
  uint32_t dfid = 0;
  std::string_view name;
  uint32_t mode = 0, major = 0, minor = 0, gid = 0;
};
struct Symlink {
  uint32_t fid = 0;
  std::string_view name, target;
  uint32_t gid = 0;
};
struct Rename {
  uint32_t fid = 0, dfid = 0;
  std::string_view name;
};
struct Renameat {
  uint32_t old_dirfid = 0;
  std::string_view old_name;
  uint32_t new_dirfid = 0;
  std::string_view new_name;
};
struct Unlinkat {
  uint32_t dirfid = 0;
  std::string_view name;
  uint32_t flags = 0;
};
// A message that is malformed, too long, or of an unknown type. The server answers it with `error`.
struct Refused {
  int error = 0;  // an errno value
};

using Body =
    std::variant<Refused, Version, Auth, Attach, Flush, Walk, Open, Create, Read, Write, Readdir,
                 Clunk, Remove, Statfs, Readlink, Getattr, Setattr, Xattrwalk, Xattrcreate, Fsync,
                 Lock, Getlock, Link, Mkdir, Mknod, Symlink, Rename, Renameat, Unlinkat>;

struct Request {
  uint16_t tag = 0;
  Body body;
  std::vector<std::byte> bytes;  // a copy of the message, except for the data of Twrite

  // Reads each byte of guest memory only once. Returns nothing if the chain has fewer than
  // kHeaderBytes, because no reply is possible without a tag. `msize` is the negotiated maximum
  // size of a message in bytes.
  static std::optional<Request> parse(std::span<const iovec> readable, uint32_t msize);
};

// The type of the reply to a request of `type`.
constexpr uint8_t reply_type(uint8_t type) { return static_cast<uint8_t>(type + 1); }

// Returns how many bytes of room the client must provide for the reply; with less, the request is
// not executed. This is the size of the longest possible reply, Rlerror included. For requests that
// change nothing, the reply's text and data are not counted.
size_t reply_room(const Body& body);

struct Qid {
  uint8_t type = 0;
  uint32_t version = 0;
  uint64_t path = 0;
  bool operator==(const Qid&) const = default;
};

// A reply under construction: the fields after the header, in the order of the specification.
class Reply {
 public:
  explicit Reply(uint8_t type) : bytes_(kHeaderBytes) { bytes_[4] = std::byte{type}; }
  static Reply error(int code);  // makes an Rlerror with the errno value `code`

  Reply& u8(uint8_t value) { return append(&value, sizeof(value)); }
  Reply& u16(uint16_t value) { return append(&value, sizeof(value)); }
  Reply& u32(uint32_t value) { return append(&value, sizeof(value)); }
  Reply& u64(uint64_t value) { return append(&value, sizeof(value)); }
  // Appends text of at most 65535 bytes; longer text is cut.
  Reply& text(std::string_view value);
  Reply& qid(const Qid& value) { return u8(value.type).u32(value.version).u64(value.path); }

  size_t size_bytes() const { return bytes_.size(); }
  // Returns the message without its data; its size field includes `data_bytes` of data, which must
  // follow. The span is valid until the reply is changed or destroyed.
  std::span<const std::byte> finish(uint16_t tag, size_t data_bytes = 0);

 private:
  Reply& append(const void* data, size_t size_bytes);
  std::vector<std::byte> bytes_;
};

// The data of an Rreaddir: as many directory entries as fit into `max_bytes`.
class DirectoryEntries {
 public:
  explicit DirectoryEntries(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Adds an entry. Returns false and adds nothing if the entry does not fit. A Treaddir with
  // `offset` continues after this entry. `type` is d_type of getdents64(2).
  bool add(const Qid& qid, uint64_t offset, uint8_t type, std::string_view name);
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  const size_t max_bytes_;
  std::vector<std::byte> bytes_;
};

}  // namespace wick::virtio::p9
