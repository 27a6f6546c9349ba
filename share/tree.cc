#include "share/tree.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>

#include "share/parts.h"

namespace wick::share {

namespace {

// Raises RLIMIT_NOFILE to its hard limit if allowed, and returns the limit that now applies.
size_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  const rlim_t now = ::setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : before;
  return static_cast<size_t>(std::min<rlim_t>(now, SSIZE_MAX));
}

// Returns the target of the magic link of `fd`: its path on the host.
Outcome<std::string> host_path(const Fd& fd) {
  std::array<char, PATH_MAX> path;
  const ssize_t size = ::readlink(path_of(fd).c_str(), path.data(), path.size());
  if (size < 0) return refuse(errno);
  return std::string(path.data(), static_cast<size_t>(size));
}

}  // namespace

Tree::Tree(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tree::~Tree() = default;

Result<std::unique_ptr<Tree>> Tree::open(const TreeOptions& options) {
  const auto failed = [&](int code, std::string hint) {
    return with_hint(fail_errno(code, "{}: cannot share this folder", options.path),
                     std::move(hint));
  };
  Fd fd(::open(options.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return failed(errno, "check the path and its permissions");
  const auto attributes = stat_of(fd);
  if (!attributes) return failed(attributes.error(), "");
  const auto kernel_interface = is_kernel_interface(fd);
  if (!kernel_interface) return failed(kernel_interface.error(), "");
  if (*kernel_interface)
    return with_hint(fail("{}: cannot share a file system of the kernel", options.path),
                     "the guest has its own");
  if (::access(path_of(fd).c_str(), F_OK) != 0)
    return failed(errno, "shares need /proc to be mounted");
  if (options.security == Security::kMapped &&
      ::getxattr(path_of(fd).c_str(), kMappedAttribute.data(), nullptr, 0) < 0 && errno != ENODATA)
    return failed(errno, "security=mapped needs a file system with extended attributes");

  // Leaves half of the descriptors to the rest of wick, and half of the shares' part to open files.
  // Linux's 9P client needs many: it keeps every file that it wrote open while the file is cached.
  const size_t most =
      std::min(options.max_descriptors, raise_descriptor_limit() / 2) / options.shares;
  const size_t max_files = std::min(kMaxOpenFiles, most / 2);
  const size_t max_lock_owners = std::min(kMaxLockOwners, most / 8);
  const size_t max_nodes = options.max_nodes / options.shares;
  const size_t max_open_nodes = std::min(max_nodes, most - max_files - max_lock_owners);
  return std::unique_ptr<Tree>(
      new Tree(std::make_unique<Parts>(options, node_of(*attributes, false, std::move(fd)),
                                       max_nodes, max_open_nodes, max_files, max_lock_owners)));
}

void Tree::prepare_thread() { take_own_umask(); }

Outcome<Entry> Tree::lookup(NodeId directory, std::string_view name) {
  const NodeRef node = TRY(parts_->nodes.find(directory));
  if (!node->is_directory()) return refuse(ENOTDIR);
  if (name == "..") return parts_->parent(*node);
  TRY(check_component(name));
  return parts_->lookup(*node, name);
}

Outcome<Entry> Tree::parent(NodeId directory) {
  const NodeRef node = TRY(parts_->nodes.find(directory));
  if (!node->is_directory()) return refuse(ENOTDIR);
  return parts_->parent(*node);
}

Outcome<Entry> Tree::Parts::lookup(const Node& directory, std::string_view name) {
  if (name == ".") {
    Entry self{directory.id, TRY(attributes_of(directory.fd))};
    TRY(nodes.add_reference(directory.id));
    return self;
  }
  if (directory.kernel_interface) return refuse(ENOENT);
  Fd found = TRY(open_beneath(directory.fd, std::string(name)));
  return enter(directory, std::move(found), name);
}

// ".." of a directory would lead out of the share if the host has moved the directory. So this
// function walks the directory's present path from the root of the share, which RESOLVE_BENEATH
// does not leave, and checks that the walk arrives at the directory to which ".." leads.
Outcome<Entry> Tree::Parts::parent(const Node& directory) {
  constexpr int kAttempts = 8;  // the host may move directories meanwhile
  const NodeRef root = nodes.root();
  for (int attempt = 0; attempt < kAttempts && directory.id != kRootNode; ++attempt) {
    std::string top = TRY(host_path(root->fd));
    const std::string path = TRY(host_path(directory.fd));
    if (!top.ends_with('/')) top += '/';
    if (!path.starts_with(top)) continue;
    const size_t slash = path.rfind('/');
    if (slash < top.size()) break;  // the directory is a child of the root
    Fd parent =
        TRY(open_beneath(root->fd, path.substr(top.size(), slash - top.size()), O_DIRECTORY));
    Fd dots(::openat(directory.fd.get(), "..", O_PATH | O_CLOEXEC));
    if (!dots.valid()) return refuse(errno);
    if (key_of(TRY(stat_of(parent))) == key_of(TRY(stat_of(dots))))
      return enter(*root, std::move(parent), {});
    if (attempt + 1 == kAttempts) return refuse(ESTALE);
  }
  if (directory.id != kRootNode) {
    // The directory is a child of the root, or no longer in the share.
    Fd dots(::openat(directory.fd.get(), "..", O_PATH | O_CLOEXEC));
    if (!dots.valid()) return refuse(errno);
    if (key_of(TRY(stat_of(dots))) != root->key) return refuse(ESTALE);
  }
  return Entry{kRootNode, TRY(attributes_of(root->fd))};
}

Outcome<Entry> Tree::Parts::enter(const Node& parent, Fd fd, std::string_view name) {
  Attributes attributes = TRY(stat_of(fd));
  bool kernel_interface = parent.kernel_interface;
  if (attributes.stx_mnt_id != parent.key.mount) {
    kernel_interface = TRY(is_kernel_interface(fd));
    if (kernel_interface && !S_ISDIR(attributes.stx_mode)) return refuse(ENOENT);
  }
  Node node = node_of(attributes, kernel_interface, std::move(fd));
  TRY(present(node.fd, attributes));
  const NodeRef known = TRY(nodes.intern(std::move(node), parent.id, name));
  return Entry{known->id, attributes};
}

void Tree::Parts::keep_open(const Node& directory, const std::string& name) {
  if (const auto key = key_at(directory.fd, name)) nodes.keep_open(*key);
}

void Tree::forget(NodeId node, uint64_t references) { parts_->nodes.forget(node, references); }

void Tree::reset() {
  parts_->files.clear();
  parts_->locks.clear();
  parts_->nodes.clear();
}

Outcome<NodeRef> Tree::Parts::changeable(NodeId id) {
  NodeRef node = TRY(nodes.find(id));
  TRY(check_writable());
  if (node->kernel_interface) return refuse(EACCES);
  return node;
}

Outcome<NodeRef> Tree::Parts::changeable_directory(NodeId id) {
  NodeRef node = TRY(changeable(id));
  if (!node->is_directory()) return refuse(ENOTDIR);
  return node;
}

Outcome<> Tree::Parts::present(const Fd& fd, Attributes& attributes) {
  const uint64_t device = ::makedev(attributes.stx_dev_major, attributes.stx_dev_minor);
  switch (options.security) {
    case Security::kPassthrough:
      attributes.stx_uid = options.uids.to_guest(attributes.stx_uid);
      attributes.stx_gid = options.gids.to_guest(attributes.stx_gid);
      break;
    case Security::kSquash:
      if (attributes.stx_uid == wick_uid) attributes.stx_uid = options.squash_uid;
      if (attributes.stx_gid == wick_gid) attributes.stx_gid = options.squash_gid;
      break;
    case Security::kMapped:
      if (const auto mapped = TRY(read_mapped_stat(fd))) mapped->apply_to(attributes);
      break;
  }
  attributes.stx_ino = numbers.number(device, attributes.stx_ino);
  return {};
}

Outcome<Attributes> Tree::Parts::attributes_of(const Fd& fd) {
  Attributes attributes = TRY(stat_of(fd));
  TRY(present(fd, attributes));
  return attributes;
}

Outcome<Attributes> Tree::attributes(NodeId id) {
  const NodeRef node = TRY(parts_->nodes.find(id));
  return parts_->attributes_of(node->fd);
}

Outcome<Attributes> Tree::attributes(FileId id) {
  const OpenFileRef file = TRY(parts_->files.find(id));
  return parts_->attributes_of(file->fd);
}

Outcome<std::string> Tree::read_link(NodeId id) {
  const NodeRef node = TRY(parts_->nodes.find(id));
  std::array<char, kMaxTargetBytes + 1> target;
  ssize_t size = -1;
  if (node->type == S_IFLNK) {
    size = ::readlinkat(node->fd.get(), "", target.data(), target.size());
  } else if (parts_->options.security == Security::kMapped && node->is_regular()) {
    const auto mapped = TRY(read_mapped_stat(node->fd));
    if (!mapped || !S_ISLNK(mapped->mode)) return refuse(EINVAL);
    const Fd file = TRY(reopen(node->fd, O_RDONLY));
    size = ::pread(file.get(), target.data(), target.size(), 0);
    if (size == 0) return refuse(EINVAL);
  } else {
    return refuse(EINVAL);
  }
  if (size < 0) return refuse(errno);
  const std::string_view text(target.data(), std::min(static_cast<size_t>(size), kMaxTargetBytes));
  return std::string(text.substr(0, text.find('\0')));
}

Outcome<struct statfs> Tree::file_system(NodeId id) {
  const NodeRef node = TRY(parts_->nodes.find(id));
  struct statfs status {};
  TRY(succeeded(::fstatfs(node->fd.get(), &status)));
  return status;
}

Tree::Usage Tree::usage() const {
  return {.nodes = parts_->nodes.size(),
          .open_files = parts_->files.size(),
          .descriptors = parts_->nodes.open_count() + parts_->files.size()};
}

}  // namespace wick::share
