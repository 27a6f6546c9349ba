// Operations of share::Tree on open files and directories.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>

#include "share/parts.h"

namespace wick::share {

namespace {

constexpr int kOpenFlags = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC;

int buffer_count(std::span<const iovec> buffers) {
  return static_cast<int>(std::min<size_t>(buffers.size(), IOV_MAX));
}

Outcome<off_t> host_offset(uint64_t offset) {
  if (offset > INT64_MAX) return refuse(EINVAL);
  return static_cast<off_t>(offset);
}

}  // namespace

Outcome<FileId> Tree::open(NodeId id, int flags, bool kill_privileges) {
  const NodeRef node = TRY(parts_->nodes.find(id));
  const int access = flags & O_ACCMODE;
  const bool changes = access != O_RDONLY || (flags & O_TRUNC) != 0;
  if (access == O_ACCMODE) return refuse(EINVAL);
  if (node->is_directory()) {
    if (changes) return refuse(EISDIR);
    Fd fd = TRY(reopen(node->fd, O_RDONLY | O_DIRECTORY));
    return parts_->files.add({node->id, node->key, node->kernel_interface, std::move(fd), false,
                              std::make_unique<DirectoryReader>()});
  }
  if ((flags & O_DIRECTORY) != 0) return refuse(ENOTDIR);
  if (node->type == S_IFLNK) return refuse(ELOOP);
  // The guest's own kernel serves devices, FIFOs and sockets.
  if (!node->is_regular()) return refuse(ENXIO);
  if (changes) TRY(parts_->check_writable());
  const bool truncates = (flags & O_TRUNC) != 0;
  if (truncates && kill_privileges && parts_->options.security == Security::kMapped)
    TRY(parts_->clear_mapped_privileges(node->fd));
  const WithoutFsetid without(truncates && parts_->clears_privileges(kill_privileges));
  Fd fd = TRY(reopen(node->fd, flags & kOpenFlags));
  return parts_->files.add(
      {node->id, node->key, node->kernel_interface, std::move(fd), access != O_RDONLY, nullptr});
}

void Tree::close(FileId file) { parts_->files.remove(file); }

// Some file systems (NFS) report errors of writing when a descriptor is closed.
Outcome<> Tree::flush(FileId id) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  const int copy = ::fcntl(file->fd.get(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return refuse(errno);
  return succeeded(::close(copy));
}

Outcome<size_t> Tree::read(FileId id, std::span<const iovec> buffers, uint64_t offset) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  const off_t at = TRY(host_offset(offset));
  const ssize_t got = ::preadv(file->fd.get(), buffers.data(), buffer_count(buffers), at);
  if (got < 0) return refuse(errno);
  return static_cast<size_t>(got);
}

Outcome<size_t> Tree::write(FileId id, std::span<const iovec> buffers, uint64_t offset,
                            const WriteOptions& options) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  const off_t at = TRY(host_offset(offset));
  if (!file->writable) return refuse(EBADF);
  if (options.kill_privileges && parts_->options.security == Security::kMapped)
    TRY(parts_->clear_mapped_privileges(file->fd));
  const WithoutFsetid without(parts_->clears_privileges(options.kill_privileges));
  const ssize_t put = ::pwritev2(file->fd.get(), buffers.data(), buffer_count(buffers), at,
                                 options.append ? RWF_APPEND : 0);
  if (put < 0) return refuse(errno);
  return static_cast<size_t>(put);
}

Outcome<> Tree::sync(FileId id, bool data_only) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  if (parts_->options.read_only) return {};
  return succeeded(data_only ? ::fdatasync(file->fd.get()) : ::fsync(file->fd.get()));
}

Outcome<> Tree::sync_all() {
  if (parts_->options.read_only) return {};
  const Fd root = TRY(reopen(parts_->nodes.root()->fd, O_RDONLY | O_DIRECTORY));
  return succeeded(::syncfs(root.get()));
}

Outcome<> Tree::read_directory(FileId id, uint64_t offset,
                               const std::function<bool(const DirectoryEntry&)>& take) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  if (file->directory == nullptr) return refuse(ENOTDIR);
  if (offset > INT64_MAX) return refuse(EINVAL);
  return file->directory->read(file->fd, offset, [&](const DirectoryEntry& host) {
    DirectoryEntry entry = host;
    const bool self = host.name == ".";
    // The guest must not learn the inode number of the root's parent.
    if (file->node == kRootNode && host.name == "..") entry.inode = file->key.inode;
    if (file->kernel_interface && !self && host.name != "..") return true;
    entry.inode = parts_->numbers.number(file->key.device, entry.inode);
    // A regular file of the host may stand for a special file of the guest.
    if (parts_->options.security == Security::kMapped && entry.type == DT_REG)
      entry.type = DT_UNKNOWN;
    return take(entry);
  });
}

Outcome<uint64_t> Tree::seek(FileId id, uint64_t offset, int whence) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  const off_t from = TRY(host_offset(offset));
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return refuse(EINVAL);
  if (file->directory != nullptr) return refuse(EISDIR);
  // Changes the file's own offset, which nothing else uses.
  const off_t found = ::lseek(file->fd.get(), from, whence);
  if (found < 0) return refuse(errno);
  return static_cast<uint64_t>(found);
}

Outcome<> Tree::allocate(FileId id, int mode, uint64_t offset, uint64_t length) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  const off_t from = TRY(host_offset(offset));
  if (length == 0 || length > static_cast<uint64_t>(INT64_MAX - from)) return refuse(EINVAL);
  if (!file->writable) return refuse(EBADF);
  const WithoutFsetid without(parts_->clears_privileges(false));
  return succeeded(::fallocate(file->fd.get(), mode, from, static_cast<off_t>(length)));
}

Outcome<uint64_t> Tree::copy_range(FileId from_id, uint64_t from_offset, FileId to_id,
                                   uint64_t to_offset, uint64_t length) {
  const OpenFileRef from = TRY(parts_->files.find(from_id));
  const OpenFileRef to = TRY(parts_->files.find(to_id));
  off_t read_at = TRY(host_offset(from_offset));
  off_t write_at = TRY(host_offset(to_offset));
  if (!to->writable) return refuse(EBADF);
  const WithoutFsetid without(parts_->clears_privileges(false));
  const ssize_t copied = ::copy_file_range(from->fd.get(), &read_at, to->fd.get(), &write_at,
                                           static_cast<size_t>(std::min(length, kMaxCopyBytes)), 0);
  if (copied < 0) return refuse(errno);
  return static_cast<uint64_t>(copied);
}

Outcome<> Tree::set_lock(FileId id, const RecordLock& lock) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  if (file->directory != nullptr) return refuse(EBADF);
  return parts_->locks.set(file->node, file->fd, lock, file->writable);
}

Outcome<RecordLock> Tree::test_lock(FileId id, const RecordLock& lock) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  if (file->directory != nullptr) return refuse(EBADF);
  return parts_->locks.test(file->node, file->fd, lock);
}

void Tree::release_locks(NodeId node, uint64_t owner) { parts_->locks.release(node, owner); }

}  // namespace wick::share
