// The tree of host files of one share, on which virtio-fs and virtio-9p build: nodes that the
// guest knows, files that it has opened, and the operations of Linux on them.
//
// The guest is hostile. Each operation takes nodes and names, never paths: a name is one
// component, which is looked up below the O_PATH descriptor of its directory (openat2(2) with
// RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS) and never followed if it is a symbolic link. Only
// regular files and directories are opened for I/O; devices, FIFOs and sockets never are. File
// systems that are interfaces of the kernel (procfs, sysfs, ...) are empty directories in a share.
//
// Errors are errno values for the guest, among them: EINVAL for an empty name and for a name
// with '/' or NUL, ESTALE for an unknown node, EBADF for an unknown file, EROFS for a change of a
// read-only share, ENFILE if the guest has too many nodes or files open.
//
// Thread rule: any thread may call any operation; they run at the same time. A thread that
// creates files must have called prepare_thread() once (share::Workers does). An operation blocks
// as long as the host's file system does. Destroy the tree only when no operation runs. An
// operation that runs during reset() may fail.
#pragma once

#include <sys/uio.h>
#include <sys/vfs.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

class Tree {
 public:
  static constexpr size_t kMaxOpenFiles = 64 << 10;   // files and directories
  static constexpr size_t kMaxLockOwners = 4 << 10;   // (node, lock owner) pairs that hold locks
  static constexpr size_t kMaxXattrBytes = 64 << 10;  // XATTR_SIZE_MAX, XATTR_LIST_MAX
  static constexpr size_t kMaxNameBytes = 255;        // NAME_MAX; longer ones are ENAMETOOLONG
  static constexpr size_t kMaxTargetBytes = 4095;     // the longest target of a symbolic link
  // The limit of one copy_range(), which bounds how long it takes.
  static constexpr uint64_t kMaxCopyBytes = 64 << 20;

  // Opens the directory, and raises RLIMIT_NOFILE to its hard limit.
  static Result<std::unique_ptr<Tree>> open(const TreeOptions& options);
  ~Tree();
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  // Sets the umask of the calling thread alone to 0: operations that create files apply
  // Caller::umask instead. The thread's working directory is its own from then on, too.
  static void prepare_thread();

  // Nodes

  // lookup() and parent() return a reference to a node. "." is the directory itself and ".." its
  // parent; the parent of the root is the root.
  Outcome<Entry> lookup(NodeId directory, std::string_view name);
  Outcome<Entry> parent(NodeId directory);
  void forget(NodeId node, uint64_t references);  // unknown nodes are ignored
  // Forgets all nodes but the root, closes all files, and releases all locks.
  void reset();

  Outcome<Attributes> attributes(NodeId node);
  Outcome<Attributes> attributes(FileId file);
  // Changes attributes. If `file` is open for writing, a change of the size needs no permission.
  Outcome<Attributes> set_attributes(NodeId node, std::optional<FileId> file,
                                     const AttributeChange& change);
  Outcome<std::string> read_link(NodeId node);
  Outcome<struct statfs> file_system(NodeId node);

  // Names

  // `mode` has only permission bits, except for make_node(): there it also has the file type, and
  // without a type the file is a regular one. `device` is a dev_t as makedev(3) builds it.
  Outcome<Entry> make_directory(const Caller& caller, NodeId directory, std::string_view name,
                                uint32_t mode);
  Outcome<Entry> make_node(const Caller& caller, NodeId directory, std::string_view name,
                           uint32_t mode, dev_t device);
  Outcome<Entry> make_symbolic_link(const Caller& caller, NodeId directory, std::string_view name,
                                    std::string_view target);
  Outcome<Entry> link(NodeId node, NodeId new_directory, std::string_view new_name);
  Outcome<> unlink(NodeId directory, std::string_view name);  // fails with EISDIR for a directory
  Outcome<> remove_directory(NodeId directory, std::string_view name);
  // `flags` are those of renameat2(2).
  Outcome<> rename(NodeId directory, std::string_view name, NodeId new_directory,
                   std::string_view new_name, unsigned flags);

  // Open files

  // Opens a regular file or a directory; a directory with O_RDONLY only. `flags` are those of
  // open(2) on x86-64; O_DIRECT, O_APPEND, O_NOATIME and unknown flags are ignored.
  // `kill_privileges`: as in AttributeChange, if `flags` has O_TRUNC.
  Outcome<FileId> open(NodeId node, int flags, bool kill_privileges = false);
  // Creates and opens a regular file. Without O_EXCL in `flags`, opens an existing one, as open()
  // does.
  Outcome<OpenedFile> create(const Caller& caller, NodeId directory, std::string_view name,
                             int flags, uint32_t mode, bool kill_privileges = false);
  // Creates a regular file without a name; link() can give it one.
  Outcome<OpenedFile> create_unnamed(const Caller& caller, NodeId directory, int flags,
                                     uint32_t mode);
  void close(FileId file);  // an unknown file is ignored
  // Called at each close(2) of the guest. Returns errors of the host.
  Outcome<> flush(FileId file);
  // read() and write() may transfer less than asked for. The buffers may be guest memory.
  Outcome<size_t> read(FileId file, std::span<const iovec> buffers, uint64_t offset);
  Outcome<size_t> write(FileId file, std::span<const iovec> buffers, uint64_t offset,
                        const WriteOptions& options = {});
  Outcome<> sync(FileId file, bool data_only);
  Outcome<> sync_all();  // syncs the file system of the root, as syncfs(2) does
  // Calls `take` for the entries from `offset` on (0 is the beginning), until `take` returns false
  // or the directory ends. An entry for which `take` returned false is left for the next call.
  Outcome<> read_directory(FileId directory, uint64_t offset,
                           const std::function<bool(const DirectoryEntry&)>& take);
  // `whence` is SEEK_DATA or SEEK_HOLE.
  Outcome<uint64_t> seek(FileId file, uint64_t offset, int whence);
  Outcome<> allocate(FileId file, int mode, uint64_t offset, uint64_t length);  // as fallocate(2)
  Outcome<uint64_t> copy_range(FileId from, uint64_t from_offset, FileId to, uint64_t to_offset,
                               uint64_t length);

  // Locks, which are OFD locks on the host

  // set_lock() does not wait: it fails with EAGAIN if another owner has a conflicting lock.
  // test_lock() returns that lock, or F_UNLCK if there is none.
  Outcome<> set_lock(FileId file, const RecordLock& lock);
  Outcome<RecordLock> test_lock(FileId file, const RecordLock& lock);
  void release_locks(NodeId node, uint64_t owner);

  // Extended attributes

  // `flags` are those of setxattr(2). `kill_set_group_id`: S_ISGID is cleared, as the kernel does
  // when someone who is not in the file's group changes its access ACL.
  Outcome<> set_xattr(NodeId node, std::string_view name, std::span<const std::byte> value,
                      int flags, bool kill_set_group_id = false);
  Outcome<std::vector<std::byte>> get_xattr(NodeId node, std::string_view name);
  // Returns the names, each of which ends with NUL.
  Outcome<std::string> list_xattrs(NodeId node);
  Outcome<> remove_xattr(NodeId node, std::string_view name);

  // Returns whether the guest may use the host's POSIX ACLs. That needs Security::kPassthrough
  // without mapped users or groups, because the IDs in ACLs are not mapped. The calling thread must
  // also have its own umask, because with ACLs the guest leaves the umask to the host. Where a file
  // system of the host has no ACLs, the files have none (ENODATA).
  bool has_acls() const;

  // For tests and for statistics.
  struct Usage {
    size_t nodes = 0;
    size_t open_files = 0;
    size_t descriptors = 0;
  };
  Usage usage() const;

 private:
  struct Parts;
  explicit Tree(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace wick::share
