// The values that the operations of a share::Tree take and return.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "share/id_map.h"

namespace wick::share {

// A file of the share, of any type, that the guest knows. An id is never used again. Each
// id that an operation returns is one reference, which the caller gives back by
// Tree::forget().
enum class NodeId : uint64_t {};
// The root of the share. It needs no reference. (FUSE_ROOT_ID has the same value.)
inline constexpr NodeId kRootNode{1};

// A file or directory that the guest has opened. An id is never used again.
enum class FileId : uint64_t {};

// How the owners, the modes and the special files that the guest sees are stored on the host.
enum class Security {
  // As they are on the host. If wick runs as root, the guest's users create files as themselves,
  // and root in the guest may do what root on the host may do with these files, device nodes and
  // set-user-ID programs included. Otherwise all files that the guest creates belong to wick's
  // user, and the host refuses what that user may not do.
  kPassthrough,
  // In the extended attribute kMappedAttribute of each file. On the host a new file belongs
  // to wick's user and has the mode 0600 or 0700; a device node, FIFO, socket or symbolic link
  // is a regular file there. A file without the attribute is shown as it is.
  kMapped,
  // Everything is done as wick's user. The guest sees TreeOptions::squash_uid and squash_gid
  // instead of that user. A change of an owner has no effect and is not an error.
  // Set-user-ID bits, device nodes and attributes outside of user.* are refused or left out.
  kSquash,
};

inline constexpr std::string_view kMappedAttribute = "user.wick.stat";

struct TreeOptions {
  std::string path;  // the path of a directory on the host
  bool read_only = false;
  Security security = Security::kSquash;
  uint32_t squash_uid = 0;
  uint32_t squash_gid = 0;
  // For kPassthrough. A guest's user that stands for no user of the host can neither own nor create
  // files: EOVERFLOW, as in a user namespace.
  IdMap uids = {};
  IdMap gids = {};
  // The maximum number of nodes that the guest knows at a time; each takes some 400 bytes.
  size_t max_nodes = 1 << 20;
  // The maximum number of descriptors that the share uses for nodes and for open files
  // together; Tree::open() reduces it to what RLIMIT_NOFILE leaves to this share.
  size_t max_descriptors = 128 << 10;
  size_t shares = 1;  // the number of the process's shares, which divide these limits among them
};

// The guest's user on whose behalf an operation is done: the owner of new files.
struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
  // Applied to new files, unless the directory has a default ACL. 0: the guest has applied it.
  uint32_t umask = 0;
};

// statx(2), with the owner, the mode and the device number that the guest shall see. stx_ino
// differs for all files of the share, even if there are several file systems below its root;
// stx_dev is that of the host. Valid are STATX_BASIC_STATS and, by stx_mask, STATX_BTIME.
using Attributes = struct statx;

// A node and its attributes. The caller owns one reference to the node.
struct Entry {
  NodeId node{};
  Attributes attributes{};
};

// The changes that an operation makes to a file's attributes. An attribute without a value is not
// changed.
struct AttributeChange {
  std::optional<uint32_t> mode;  // permissions, S_ISUID, S_ISGID and S_ISVTX
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<uint64_t> size_bytes;
  std::optional<timespec> access_time;  // tv_nsec may be UTIME_NOW
  std::optional<timespec> modification_time;
  // Clears the set-user-ID and set-group-ID bits as the kernel does for a user without
  // CAP_FSETID, when the size or the owner changes.
  bool kill_privileges = false;
};

struct OpenedFile {
  FileId file{};
  Entry entry;  // the caller owns one reference to its node
};

// An entry of a directory. `name` is valid during the call.
struct DirectoryEntry {
  std::string_view name;     // "." and ".." are among them
  uint64_t inode = 0;        // as stx_ino, but not exact for a mount point
  uint64_t next_offset = 0;  // where read_directory() continues behind this entry
  uint8_t type = 0;          // DT_REG, ...; DT_UNKNOWN if the host does not say
};

struct WriteOptions {
  bool append = false;           // at the end of the file, whatever the offset is
  bool kill_privileges = false;  // as in AttributeChange
};

// A POSIX record lock. `owner` tells the guest's lock owners apart.
struct RecordLock {
  int type = 0;  // F_RDLCK, F_WRLCK or F_UNLCK
  uint64_t start = 0;
  uint64_t length = 0;  // 0: up to the end of the file, however far it grows
  uint64_t owner = 0;
};

}  // namespace wick::share
