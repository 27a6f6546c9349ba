// Operations of share::Tree that make, remove and rename entries of directories.
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "share/parts.h"

namespace wick::share {

namespace {

constexpr uint32_t kPermissions = 07777;

bool is_whiteout(uint32_t mode, dev_t device) { return S_ISCHR(mode) && device == 0; }

}  // namespace

uint32_t Tree::Parts::host_mode(uint32_t mode) const {
  switch (options.security) {
    case Security::kPassthrough:
      return mode & kPermissions;
    case Security::kMapped:
      return S_ISDIR(mode) ? 0700 : 0600;
    case Security::kSquash:
      break;
  }
  // A guest must not make programs that run as wick's user on the host.
  return mode & (S_ISDIR(mode) ? kPermissions & ~S_ISUID : 01777u);
}

Outcome<std::optional<AssumedCaller>> Tree::Parts::assume(const Caller& caller) const {
  if (options.security != Security::kPassthrough || !may_assume_users()) return std::nullopt;
  const Caller user = TRY(on_host(caller));
  return TRY(AssumedCaller::enter(user));
}

Outcome<Caller> Tree::Parts::on_host(const Caller& caller) const {
  const auto uid = options.uids.to_host(caller.uid);
  const auto gid = options.gids.to_host(caller.gid);
  if (!uid || !gid) return refuse(EOVERFLOW);
  return Caller{*uid, *gid, caller.umask};
}

Outcome<> Tree::Parts::store_mapped(const Caller& caller, const Fd& directory, const Fd& fd,
                                    uint32_t mode, dev_t device) {
  Attributes parent = TRY(stat_of(directory));
  if (const auto stored = TRY(read_mapped_stat(directory))) stored->apply_to(parent);
  const bool passes_group = (parent.stx_mode & S_ISGID) != 0;
  if (passes_group && S_ISDIR(mode)) mode |= S_ISGID;
  return write_mapped_stat(fd, {.uid = caller.uid,
                                .gid = passes_group ? parent.stx_gid : caller.gid,
                                .mode = mode,
                                .rdev_major = ::major(device),
                                .rdev_minor = ::minor(device)});
}

// In this function `mode` includes the file type.
template <typename Make>
Outcome<Entry> Tree::Parts::make_entry(const Caller& caller, NodeId id, std::string_view name,
                                       uint32_t mode, dev_t device, Make make) {
  TRY(check_entry_name(name));
  const NodeRef directory = TRY(changeable_directory(id));
  const std::string entry(name);
  {
    const auto assumed = TRY(assume(caller));
    const ThreadUmask masked(caller.umask);
    TRY(succeeded(make(directory->fd.get(), entry.c_str())));
  }
  Fd made = TRY(open_beneath(directory->fd, entry));
  if (options.security == Security::kMapped && !is_whiteout(mode, device)) {
    if (const auto stored = store_mapped(caller, directory->fd, made, mode, device); !stored) {
      ::unlinkat(directory->fd.get(), entry.c_str(), S_ISDIR(mode) ? AT_REMOVEDIR : 0);
      return refuse(stored.error());
    }
  }
  return enter(*directory, std::move(made), entry);
}

Outcome<Entry> Tree::make_directory(const Caller& caller, NodeId directory, std::string_view name,
                                    uint32_t mode) {
  mode = S_IFDIR | (mode & kPermissions);
  return parts_->make_entry(caller, directory, name, mode, 0, [&](int at, const char* entry) {
    return ::mkdirat(at, entry, parts_->host_mode(mode));
  });
}

Outcome<Entry> Tree::make_node(const Caller& caller, NodeId directory, std::string_view name,
                               uint32_t mode, dev_t device) {
  uint32_t type = mode & S_IFMT;
  if (type == 0) type = S_IFREG;
  if (type == S_IFDIR || type == S_IFLNK) return refuse(EINVAL);
  mode = type | (mode & kPermissions);
  // A whiteout of overlayfs is a character device 0:0, which no driver has.
  const bool is_device = (S_ISCHR(mode) || S_ISBLK(mode)) && !is_whiteout(mode, device);
  if (!S_ISCHR(mode) && !S_ISBLK(mode)) device = 0;
  if (is_device && parts_->options.security == Security::kSquash) return refuse(EPERM);
  // A whiteout must be a device on the host, too: overlays take no other entry for a whiteout.
  const bool mapped = parts_->options.security == Security::kMapped && !is_whiteout(mode, device);
  const uint32_t host_type = mapped ? uint32_t{S_IFREG} : type;
  return parts_->make_entry(caller, directory, name, mode, device, [&](int at, const char* entry) {
    return ::mknodat(at, entry, host_type | parts_->host_mode(mode), mapped ? 0 : device);
  });
}

Outcome<Entry> Tree::make_symbolic_link(const Caller& caller, NodeId directory,
                                        std::string_view name, std::string_view target) {
  if (target.empty()) return refuse(ENOENT);
  if (target.find('\0') != target.npos) return refuse(EINVAL);
  if (target.size() > kMaxTargetBytes) return refuse(ENAMETOOLONG);
  const std::string text(target);
  if (parts_->options.security != Security::kMapped)
    return parts_->make_entry(
        caller, directory, name, S_IFLNK | 0777, 0,
        [&](int at, const char* entry) { return ::symlinkat(text.c_str(), at, entry); });
  return parts_->make_entry(
      caller, directory, name, S_IFLNK | 0777, 0, [&](int at, const char* entry) {
        const Fd file(
            ::openat(at, entry, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (!file.valid()) return -1;
        const ssize_t written = ::write(file.get(), text.data(), text.size());
        if (written == static_cast<ssize_t>(text.size())) return 0;
        const int why = written < 0 ? errno : ENOSPC;
        ::unlinkat(at, entry, 0);
        errno = why;
        return -1;
      });
}

Outcome<Entry> Tree::link(NodeId id, NodeId new_directory, std::string_view new_name) {
  TRY(check_entry_name(new_name));
  const NodeRef node = TRY(parts_->changeable(id));
  const NodeRef directory = TRY(parts_->changeable_directory(new_directory));
  if (node->is_directory()) return refuse(EPERM);
  TRY(succeeded(::linkat(AT_FDCWD, path_of(node->fd).c_str(), directory->fd.get(),
                         std::string(new_name).c_str(), AT_SYMLINK_FOLLOW)));
  const Attributes attributes = TRY(parts_->attributes_of(node->fd));
  TRY(parts_->nodes.add_reference(id));
  parts_->nodes.move(node->key, new_directory, new_name);
  return Entry{id, attributes};
}

Outcome<> Tree::unlink(NodeId id, std::string_view name) {
  TRY(check_entry_name(name));
  const NodeRef directory = TRY(parts_->changeable_directory(id));
  const std::string entry(name);
  parts_->keep_open(*directory, entry);
  return succeeded(::unlinkat(directory->fd.get(), entry.c_str(), 0));
}

Outcome<> Tree::remove_directory(NodeId id, std::string_view name) {
  TRY(check_entry_name(name));
  const NodeRef directory = TRY(parts_->changeable_directory(id));
  const std::string entry(name);
  parts_->keep_open(*directory, entry);
  return succeeded(::unlinkat(directory->fd.get(), entry.c_str(), AT_REMOVEDIR));
}

Outcome<> Tree::rename(NodeId id, std::string_view name, NodeId new_id, std::string_view new_name,
                       unsigned flags) {
  TRY(check_entry_name(name));
  TRY(check_entry_name(new_name));
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0) return refuse(EINVAL);
  const NodeRef from = TRY(parts_->changeable_directory(id));
  const NodeRef to = TRY(parts_->changeable_directory(new_id));
  // Whiteouts are allowed because Linux takes only a share with whiteouts as the upper layer of an
  // overlay. A whiteout that the host's kernel makes has no mapped owner, and needs none.
  const std::string entry(name);
  const std::string new_entry(new_name);
  const auto moved = key_at(from->fd, entry);
  const auto replaced = key_at(to->fd, new_entry);
  const bool exchanges = (flags & RENAME_EXCHANGE) != 0;
  if (replaced && !exchanges) parts_->nodes.keep_open(*replaced);
  TRY(succeeded(
      ::renameat2(from->fd.get(), entry.c_str(), to->fd.get(), new_entry.c_str(), flags)));
  if (moved) parts_->nodes.move(*moved, new_id, new_name);
  if (replaced && exchanges) parts_->nodes.move(*replaced, id, name);
  return {};
}

// The functions below make files without an entry, or create and open a file at once. They make
// these files as the functions above do.

namespace {

constexpr int kCreateFlags = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC;

}  // namespace

Outcome<OpenedFile> Tree::create(const Caller& caller, NodeId id, std::string_view name, int flags,
                                 uint32_t mode, bool kill_privileges) {
  TRY(check_entry_name(name));
  if ((flags & O_ACCMODE) == O_ACCMODE) return refuse(EINVAL);
  const NodeRef directory = TRY(parts_->changeable_directory(id));
  const std::string entry(name);
  mode = S_IFREG | (mode & kPermissions);
  constexpr int kAttempts = 8;  // the host may create and remove the file meanwhile
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Fd fd;
    {
      // Always a new file: an existing one could be a FIFO or a symbolic link of the host.
      const auto assumed = TRY(parts_->assume(caller));
      const ThreadUmask masked(caller.umask);
      fd = Fd(::openat(
          directory->fd.get(), entry.c_str(),
          (flags & kCreateFlags & ~O_TRUNC) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY,
          parts_->host_mode(mode)));
    }
    if (fd.valid()) {
      auto made = parts_->add_created(caller, *directory, name, std::move(fd), flags, mode);
      if (!made) ::unlinkat(directory->fd.get(), entry.c_str(), 0);
      return made;
    }
    if (errno != EEXIST || (flags & O_EXCL) != 0) return refuse(errno);
    auto existing = parts_->lookup(*directory, name);
    if (!existing && existing.error() == ENOENT) continue;
    if (!existing) return refuse(existing.error());
    auto opened = open(existing->node, flags & ~(O_CREAT | O_EXCL), kill_privileges);
    if (!opened) {
      forget(existing->node, 1);
      return refuse(opened.error());
    }
    return OpenedFile{*opened, *existing};
  }
  return refuse(ENOENT);
}

Outcome<OpenedFile> Tree::create_unnamed(const Caller& caller, NodeId id, int flags,
                                         uint32_t mode) {
  if ((flags & O_ACCMODE) != O_WRONLY && (flags & O_ACCMODE) != O_RDWR) return refuse(EINVAL);
  const NodeRef directory = TRY(parts_->changeable_directory(id));
  mode = S_IFREG | (mode & kPermissions);
  Fd fd;
  {
    const auto assumed = TRY(parts_->assume(caller));
    const ThreadUmask masked(caller.umask);
    fd = Fd(::openat(directory->fd.get(), ".",
                     (flags & (kCreateFlags | O_EXCL) & ~O_TRUNC) | O_TMPFILE | O_CLOEXEC,
                     parts_->host_mode(mode)));
  }
  if (!fd.valid()) return refuse(errno);
  return parts_->add_created(caller, *directory, {}, std::move(fd), flags, mode);
}

Outcome<OpenedFile> Tree::Parts::add_created(const Caller& caller, const Node& directory,
                                             std::string_view name, Fd fd, int flags,
                                             uint32_t mode) {
  fd = out_of_the_way(std::move(fd));
  if (options.security == Security::kMapped) TRY(store_mapped(caller, directory.fd, fd, mode, 0));
  Fd path = TRY(reopen(fd, O_PATH));
  const Entry entry = TRY(enter(directory, std::move(path), name));
  auto node = nodes.find(entry.node);
  if (!node) return refuse(node.error());
  const bool writable = (flags & O_ACCMODE) != O_RDONLY;
  auto id = files.add(
      {entry.node, (*node)->key, (*node)->kernel_interface, std::move(fd), writable, nullptr});
  if (!id) {
    nodes.forget(entry.node, 1);
    return refuse(id.error());
  }
  return OpenedFile{*id, entry};
}

}  // namespace wick::share
