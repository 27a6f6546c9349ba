#include "virtio/fuse_attributes.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace wick::virtio {

uint32_t fuse_device(uint32_t major, uint32_t minor) {
  return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

dev_t host_device(uint32_t device) {
  return ::makedev((device & 0xfff00) >> 8, (device & 0xff) | ((device >> 12) & 0xfff00));
}

fuse_attr fuse_attributes(const share::Attributes& attributes) {
  fuse_attr attr{};
  attr.ino = attributes.stx_ino;
  attr.size = attributes.stx_size;
  attr.blocks = attributes.stx_blocks;
  attr.atime = static_cast<uint64_t>(attributes.stx_atime.tv_sec);
  attr.mtime = static_cast<uint64_t>(attributes.stx_mtime.tv_sec);
  attr.ctime = static_cast<uint64_t>(attributes.stx_ctime.tv_sec);
  attr.atimensec = attributes.stx_atime.tv_nsec;
  attr.mtimensec = attributes.stx_mtime.tv_nsec;
  attr.ctimensec = attributes.stx_ctime.tv_nsec;
  attr.mode = attributes.stx_mode;
  attr.nlink = attributes.stx_nlink;
  attr.uid = attributes.stx_uid;
  attr.gid = attributes.stx_gid;
  attr.rdev = fuse_device(attributes.stx_rdev_major, attributes.stx_rdev_minor);
  attr.blksize = attributes.stx_blksize;
  return attr;
}

fuse_entry_out fuse_entry(const share::Entry& entry, std::chrono::seconds valid) {
  fuse_entry_out out{};
  out.nodeid = static_cast<uint64_t>(entry.node);
  out.entry_valid = static_cast<uint64_t>(valid.count());
  out.attr_valid = out.entry_valid;
  out.attr = fuse_attributes(entry.attributes);
  return out;
}

fuse_attr_out fuse_attributes_reply(const share::Attributes& attributes,
                                    std::chrono::seconds valid) {
  fuse_attr_out out{};
  out.attr_valid = static_cast<uint64_t>(valid.count());
  out.attr = fuse_attributes(attributes);
  return out;
}

share::AttributeChange attribute_change(const fuse_setattr_in& in) {
  share::AttributeChange change;
  const auto time = [&](uint32_t given, uint32_t now, uint64_t seconds,
                        uint32_t nanoseconds) -> std::optional<timespec> {
    if ((in.valid & now) != 0) return timespec{0, UTIME_NOW};
    if ((in.valid & given) == 0) return std::nullopt;
    return timespec{static_cast<time_t>(seconds), static_cast<long>(nanoseconds)};
  };
  if ((in.valid & FATTR_MODE) != 0) change.mode = in.mode & 07777;
  if ((in.valid & FATTR_UID) != 0) change.uid = in.uid;
  if ((in.valid & FATTR_GID) != 0) change.gid = in.gid;
  if ((in.valid & FATTR_SIZE) != 0) change.size_bytes = in.size;
  change.access_time = time(FATTR_ATIME, FATTR_ATIME_NOW, in.atime, in.atimensec);
  change.modification_time = time(FATTR_MTIME, FATTR_MTIME_NOW, in.mtime, in.mtimensec);
  change.kill_privileges = (in.valid & FATTR_KILL_SUIDGID) != 0;
  return change;
}

}  // namespace wick::virtio
