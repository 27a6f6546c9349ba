// Operations of share::Tree that change attributes and extended attributes.
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#include <array>

#include "share/parts.h"

namespace wick::share {

namespace {

constexpr uint32_t kPermissions = 07777;
constexpr uint32_t kUnchangedId = UINT32_MAX;  // tells chown(2) not to change the ID

// Clears the set-user-ID and set-group-ID bits of a file. S_ISGID without S_IXGRP has another
// meaning.
uint32_t without_privileges(uint32_t mode) {
  if (S_ISDIR(mode)) return mode;
  if ((mode & S_IXGRP) != 0) mode &= ~uint32_t{S_ISGID};
  return mode & ~uint32_t{S_ISUID};
}

Outcome<> check_xattr_name(std::string_view name) {
  if (name.empty() || name.size() > XATTR_NAME_MAX) return refuse(ERANGE);
  if (name.find('\0') != name.npos) return refuse(EINVAL);
  return {};
}

}  // namespace

Outcome<Attributes> Tree::set_attributes(NodeId id, std::optional<FileId> file,
                                         const AttributeChange& change) {
  const NodeRef node = TRY(parts_->changeable(id));
  if (change.uid == kUnchangedId || change.gid == kUnchangedId) return refuse(EINVAL);
  if (parts_->options.security == Security::kMapped)
    TRY(parts_->change_mapped(*node, change));
  else
    TRY(parts_->change_owner_and_mode(*node, change));
  if (change.size_bytes) TRY(parts_->change_size(*node, file, change));
  if (change.access_time || change.modification_time) {
    const timespec unchanged{0, UTIME_OMIT};
    const std::array<timespec, 2> times = {change.access_time.value_or(unchanged),
                                           change.modification_time.value_or(unchanged)};
    TRY(succeeded(::utimensat(node->fd.get(), "", times.data(), AT_EMPTY_PATH)));
  }
  return parts_->attributes_of(node->fd);
}

Outcome<> Tree::Parts::change_owner_and_mode(const Node& node, const AttributeChange& change) {
  if ((change.uid || change.gid) && options.security == Security::kPassthrough) {
    const auto uid = change.uid ? options.uids.to_host(*change.uid) : kUnchangedId;
    const auto gid = change.gid ? options.gids.to_host(*change.gid) : kUnchangedId;
    if (!uid || !gid) return refuse(EOVERFLOW);
    TRY(succeeded(::fchownat(node.fd.get(), "", *uid, *gid, AT_EMPTY_PATH)));
  }
  if (change.mode) {
    if (node.type == S_IFLNK) return refuse(EOPNOTSUPP);
    const uint32_t mode = host_mode(node.type | (*change.mode & kPermissions));
    TRY(succeeded(::chmod(path_of(node.fd).c_str(), mode)));
  }
  return {};
}

Outcome<> Tree::Parts::change_mapped(const Node& node, const AttributeChange& change) {
  if (!change.mode && !change.uid && !change.gid) return {};
  if (!node.is_regular() && !node.is_directory()) return refuse(EPERM);
  const MutexLock lock(mapped_mutex);
  const auto stored = TRY(read_mapped_stat(node.fd));
  MappedStat stat = stored ? *stored : MappedStat::of(TRY(stat_of(node.fd)));
  if (change.uid) stat.uid = *change.uid;
  if (change.gid) stat.gid = *change.gid;
  if (change.mode)
    stat.mode = (stat.mode & S_IFMT) | (*change.mode & kPermissions);
  else if (change.kill_privileges)
    stat.mode = without_privileges(stat.mode);
  return write_mapped_stat(node.fd, stat);
}

Outcome<> Tree::Parts::clear_mapped_privileges(const Fd& fd) {
  const MutexLock lock(mapped_mutex);
  auto stat = TRY(read_mapped_stat(fd));
  if (!stat || stat->mode == without_privileges(stat->mode)) return {};
  stat->mode = without_privileges(stat->mode);
  return write_mapped_stat(fd, *stat);
}

Outcome<> Tree::Parts::change_size(const Node& node, std::optional<FileId> id,
                                   const AttributeChange& change) {
  if (node.is_directory()) return refuse(EISDIR);
  if (!node.is_regular()) return refuse(EINVAL);
  if (*change.size_bytes > INT64_MAX) return refuse(EFBIG);
  const auto size = static_cast<off_t>(*change.size_bytes);
  if (change.kill_privileges && options.security == Security::kMapped)
    TRY(clear_mapped_privileges(node.fd));
  const WithoutFsetid without(clears_privileges(change.kill_privileges));
  if (id) {
    const OpenFileRef file = TRY(files.find(*id));
    if (file->node != node.id) return refuse(EBADF);
    if (file->writable) return succeeded(::ftruncate(file->fd.get(), size));
  }
  const Fd fd = TRY(reopen(node.fd, O_WRONLY));
  return succeeded(::ftruncate(fd.get(), size));
}

bool Tree::Parts::has_acls() const {
  return options.security == Security::kPassthrough && options.uids.empty() && options.gids.empty();
}

bool Tree::has_acls() const { return parts_->has_acls() && has_own_umask(); }

// The guest must not see the attribute that maps a file. It also must not give files privileges on
// the host, such as capabilities.
bool Tree::Parts::shows_xattr(std::string_view name) const {
  if (options.security == Security::kPassthrough)
    return has_acls() || !name.starts_with("system.posix_acl_");
  return name.starts_with("user.") && !name.starts_with("user.wick.");
}

Outcome<> Tree::set_xattr(NodeId id, std::string_view name, std::span<const std::byte> value,
                          int flags, bool kill_set_group_id) {
  const NodeRef node = TRY(parts_->changeable(id));
  TRY(check_xattr_name(name));
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return refuse(EINVAL);
  if (value.size() > kMaxXattrBytes) return refuse(E2BIG);
  if (!parts_->shows_xattr(name)) return refuse(EOPNOTSUPP);
  const std::string path = path_of(node->fd);
  TRY(succeeded(
      ::setxattr(path.c_str(), std::string(name).c_str(), value.data(), value.size(), flags)));
  if (!kill_set_group_id) return {};
  // The host's kernel would look at the groups of wick, not at those of the guest's user.
  struct stat status {};
  TRY(succeeded(::fstat(node->fd.get(), &status)));
  if ((status.st_mode & S_ISGID) == 0) return {};
  return succeeded(::chmod(path.c_str(), status.st_mode & kPermissions & ~mode_t{S_ISGID}));
}

Outcome<std::vector<std::byte>> Tree::get_xattr(NodeId id, std::string_view name) {
  const NodeRef node = TRY(parts_->nodes.find(id));
  TRY(check_xattr_name(name));
  if (!parts_->shows_xattr(name)) return refuse(EOPNOTSUPP);
  // With any other error than ENODATA for an ACL, the guest's kernel would refuse the file to all
  // but its owner (Linux, fs/fuse/acl.c).
  const int unsupported =
      parts_->has_acls() && name.starts_with("system.posix_acl_") ? ENODATA : EOPNOTSUPP;
  if (node->kernel_interface) return refuse(unsupported);
  // Tries a short buffer first, because most values are short.
  for (std::vector<std::byte> value(256);; value.resize(kMaxXattrBytes)) {
    const ssize_t size = ::getxattr(path_of(node->fd).c_str(), std::string(name).c_str(),
                                    value.data(), value.size());
    if (size < 0 && errno == ERANGE && value.size() < kMaxXattrBytes) continue;
    if (size < 0) return refuse(errno == EOPNOTSUPP ? unsupported : errno);
    value.resize(static_cast<size_t>(size));
    return value;
  }
}

Outcome<std::string> Tree::list_xattrs(NodeId id) {
  const NodeRef node = TRY(parts_->nodes.find(id));
  if (node->kernel_interface) return std::string();
  std::string names(kMaxXattrBytes, '\0');
  const ssize_t size = ::listxattr(path_of(node->fd).c_str(), names.data(), names.size());
  if (size < 0) return refuse(errno);
  names.resize(static_cast<size_t>(size));
  std::string shown;
  for (size_t at = 0; at < names.size();) {
    const std::string_view name(names.c_str() + at);
    if (parts_->shows_xattr(name)) shown.append(name).push_back('\0');
    at += name.size() + 1;
  }
  return shown;
}

Outcome<> Tree::remove_xattr(NodeId id, std::string_view name) {
  const NodeRef node = TRY(parts_->changeable(id));
  TRY(check_xattr_name(name));
  if (!parts_->shows_xattr(name)) return refuse(EOPNOTSUPP);
  return succeeded(::removexattr(path_of(node->fd).c_str(), std::string(name).c_str()));
}

}  // namespace wick::share
