// The requests of FuseSession for names, nodes and their attributes.
#include <algorithm>

#include "virtio/fuse_call.h"

namespace wick::virtio {

share::Caller FuseSession::caller(const Call& call, uint32_t umask) const {
  share::Caller caller = call.caller();
  if (acls_) caller.umask = umask & 0777;
  return caller;
}

// Answers with a node. If the answer does not fit, gives the client's reference to the node back,
// because the client does not learn of the node.
uint32_t FuseSession::entry_reply(Call& call, const share::Outcome<share::Entry>& entry) {
  if (!entry) return call.error(entry.error());
  const uint32_t written = call.structures(fuse_entry(*entry, valid_));
  if (written <= sizeof(fuse_out_header)) tree_.forget(entry->node, 1);
  return written;
}

uint32_t FuseSession::lookup(Call& call) {
  std::string_view name;
  if (!call.arguments.take(name)) return call.error(EINVAL);
  const auto entry = tree_.lookup(call.node(), name);
  // An entry without a node lets the client cache that the file does not exist.
  if (!entry && entry.error() == ENOENT && cache_ == FuseCache::kAlways)
    return call.structures(fuse_entry({}, valid_));
  return entry_reply(call, entry);
}

uint32_t FuseSession::get_attributes(Call& call) {
  fuse_getattr_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  const bool of_file = (in.getattr_flags & FUSE_GETATTR_FH) != 0;
  const auto attributes =
      of_file ? tree_.attributes(share::FileId{in.fh}) : tree_.attributes(call.node());
  if (!attributes) return call.error(attributes.error());
  return call.structures(fuse_attributes_reply(*attributes, valid_));
}

uint32_t FuseSession::set_attributes(Call& call) {
  fuse_setattr_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  std::optional<share::FileId> file;
  if ((in.valid & FATTR_FH) != 0) file = share::FileId{in.fh};
  const auto attributes = tree_.set_attributes(call.node(), file, attribute_change(in));
  if (!attributes) return call.error(attributes.error());
  return call.structures(fuse_attributes_reply(*attributes, valid_));
}

uint32_t FuseSession::read_link(Call& call) {
  const auto target = tree_.read_link(call.node());
  if (!target) return call.error(target.error());
  return call.bytes(as_bytes(target->data(), target->size()));
}

uint32_t FuseSession::symbolic_link(Call& call) {
  std::string_view name;
  std::string_view target;
  if (!take_all(call.arguments, name, target)) return call.error(EINVAL);
  const auto entry = tree_.make_symbolic_link(call.caller(), call.node(), name, target);
  return entry_reply(call, entry);
}

uint32_t FuseSession::make_node(Call& call) {
  fuse_mknod_in in;
  std::string_view name;
  if (!take_all(call.arguments, in, name)) return call.error(EINVAL);
  const auto entry =
      tree_.make_node(caller(call, in.umask), call.node(), name, in.mode, host_device(in.rdev));
  return entry_reply(call, entry);
}

uint32_t FuseSession::make_directory(Call& call) {
  fuse_mkdir_in in;
  std::string_view name;
  if (!take_all(call.arguments, in, name)) return call.error(EINVAL);
  const auto entry = tree_.make_directory(caller(call, in.umask), call.node(), name, in.mode);
  return entry_reply(call, entry);
}

uint32_t FuseSession::unlink(Call& call) {
  std::string_view name;
  if (!call.arguments.take(name)) return call.error(EINVAL);
  return call.done(tree_.unlink(call.node(), name));
}

uint32_t FuseSession::remove_directory(Call& call) {
  std::string_view name;
  if (!call.arguments.take(name)) return call.error(EINVAL);
  return call.done(tree_.remove_directory(call.node(), name));
}

uint32_t FuseSession::rename(Call& call) {
  fuse_rename_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  return rename(call, in.newdir, 0);
}

uint32_t FuseSession::rename2(Call& call) {
  fuse_rename2_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  return rename(call, in.newdir, in.flags);
}

uint32_t FuseSession::rename(Call& call, uint64_t new_directory, uint32_t flags) {
  std::string_view name;
  std::string_view new_name;
  if (!take_all(call.arguments, name, new_name)) return call.error(EINVAL);
  return call.done(tree_.rename(call.node(), name, share::NodeId{new_directory}, new_name, flags));
}

uint32_t FuseSession::link(Call& call) {
  fuse_link_in in;
  std::string_view name;
  if (!take_all(call.arguments, in, name)) return call.error(EINVAL);
  const auto entry = tree_.link(share::NodeId{in.oldnodeid}, call.node(), name);
  return entry_reply(call, entry);
}

uint32_t FuseSession::file_system(Call& call) {
  const auto status = tree_.file_system(call.node());
  if (!status) return call.error(status.error());
  fuse_statfs_out out{};
  out.st.blocks = status->f_blocks;
  out.st.bfree = status->f_bfree;
  out.st.bavail = status->f_bavail;
  out.st.files = status->f_files;
  out.st.ffree = status->f_ffree;
  out.st.bsize = static_cast<uint32_t>(status->f_bsize);
  out.st.namelen = static_cast<uint32_t>(status->f_namelen);
  out.st.frsize = static_cast<uint32_t>(status->f_frsize);
  return call.structures(out);
}

uint32_t FuseSession::set_xattr(Call& call) {
  fuse_setxattr_in in;
  std::string_view name;
  // The structure has its last fields only if FUSE_SETXATTR_EXT was negotiated (kAclFeatures).
  const bool taken = acls_ ? call.arguments.take(in)
                           : call.arguments.take_prefix(in, FUSE_COMPAT_SETXATTR_IN_SIZE);
  if (!taken || !call.arguments.take(name) || call.arguments.rest().size() < in.size)
    return call.error(EINVAL);
  const bool kill_set_group_id = (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
  return call.done(tree_.set_xattr(call.node(), name, call.arguments.rest().first(in.size),
                                   static_cast<int>(in.flags), kill_set_group_id));
}

// With the size 0, the client asks only for the size of the value.
uint32_t FuseSession::xattr_reply(Call& call, uint32_t size, std::span<const std::byte> value) {
  if (size == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<uint32_t>(value.size());
    return call.structures(out);
  }
  if (value.size() > size) return call.error(ERANGE);
  return call.bytes(value);
}

uint32_t FuseSession::get_xattr(Call& call) {
  fuse_getxattr_in in;
  std::string_view name;
  if (!take_all(call.arguments, in, name)) return call.error(EINVAL);
  const auto value = tree_.get_xattr(call.node(), name);
  if (!value) return call.error(value.error());
  return xattr_reply(call, in.size, *value);
}

uint32_t FuseSession::list_xattrs(Call& call) {
  fuse_getxattr_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  const auto names = tree_.list_xattrs(call.node());
  if (!names) return call.error(names.error());
  return xattr_reply(call, in.size, as_bytes(names->data(), names->size()));
}

uint32_t FuseSession::remove_xattr(Call& call) {
  std::string_view name;
  if (!call.arguments.take(name)) return call.error(EINVAL);
  return call.done(tree_.remove_xattr(call.node(), name));
}

}  // namespace wick::virtio
