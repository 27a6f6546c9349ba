// The requests for a file's attributes, its extended attributes, and its file system.
#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/hash.h"
#include "virtio/p9_execution.h"

namespace wick::virtio::p9 {

using share::Outcome;
using share::refuse;

namespace {

template <typename... Values>
uint32_t mix(Values... values) {
  const uint64_t all[] = {static_cast<uint64_t>(values)...};
  const uint64_t hash = fnv1a({reinterpret_cast<const char*>(all), sizeof(all)});
  return static_cast<uint32_t>(hash ^ (hash >> 32));
}

// Encodes a device number like Linux's new_encode_dev(), because the client decodes that format.
uint32_t encode_device(uint32_t major, uint32_t minor) {
  return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

// Returns a time for Tsetattr: the given one, or the host's present time. The client must not give
// UTIME_NOW or UTIME_OMIT as nanoseconds, so the range is checked.
Outcome<timespec> time_to_set(bool given, uint64_t seconds, uint64_t nanoseconds) {
  if (!given) return timespec{0, UTIME_NOW};
  if (nanoseconds >= 1'000'000'000) return refuse(EINVAL);
  return timespec{static_cast<time_t>(seconds), static_cast<long>(nanoseconds)};
}

}  // namespace

uint8_t qid_type(uint32_t mode) {
  return S_ISDIR(mode) ? P9_QTDIR : S_ISLNK(mode) ? P9_QTSYMLINK : P9_QTFILE;
}

Qid qid_of(const share::Attributes& attributes) {
  const uint32_t version =
      mix(attributes.stx_mtime.tv_sec, attributes.stx_mtime.tv_nsec, attributes.stx_size);
  return {qid_type(attributes.stx_mode), std::max(version, 1u), attributes.stx_ino};
}

Outcome<Session::Answer> Session::Execution::operator()(const Statfs& statfs) {
  const Fid fid = TRY(find_file(statfs.fid));
  const auto status = TRY(tree.file_system(fid.node()));
  uint64_t id = 0;
  static_assert(sizeof(status.f_fsid) == sizeof(id));
  std::memcpy(&id, &status.f_fsid, sizeof(id));
  Answer reply = answer(P9_TSTATFS);
  reply.reply.u32(static_cast<uint32_t>(status.f_type))
      .u32(static_cast<uint32_t>(status.f_bsize))
      .u64(status.f_blocks)
      .u64(status.f_bfree)
      .u64(status.f_bavail)
      .u64(status.f_files)
      .u64(status.f_ffree)
      .u64(id)
      .u32(static_cast<uint32_t>(status.f_namelen));
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Getattr& getattr) {
  const Fid fid = TRY(find_file(getattr.fid));
  const auto status = TRY(tree.attributes(fid.node()));
  const bool has_birth_time = (status.stx_mask & STATX_BTIME) != 0;
  const auto birth_time = has_birth_time ? status.stx_btime : statx_timestamp{};
  // The generation distinguishes a new file from a removed file with the same inode number. It is
  // computed from the time of birth, which differs between the two.
  const uint32_t generation = has_birth_time ? mix(birth_time.tv_sec, birth_time.tv_nsec) : 0;
  Answer reply = answer(P9_TGETATTR);
  reply.reply.u64(P9_STATS_BASIC | (has_birth_time ? P9_STATS_BTIME | P9_STATS_GEN : 0))
      .qid(qid_of(status))
      .u32(status.stx_mode)
      .u32(status.stx_uid)
      .u32(status.stx_gid)
      .u64(status.stx_nlink)
      .u64(encode_device(status.stx_rdev_major, status.stx_rdev_minor))
      .u64(status.stx_size)
      .u64(status.stx_blksize)
      .u64(status.stx_blocks);
  for (const auto& time : {status.stx_atime, status.stx_mtime, status.stx_ctime, birth_time})
    reply.reply.u64(static_cast<uint64_t>(time.tv_sec)).u64(time.tv_nsec);
  reply.reply.u64(generation).u64(0);  // data_version, which is not valid
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Setattr& setattr) {
  const Fid fid = TRY(find_file(setattr.fid));
  const auto wants = [&](uint32_t bit) { return (setattr.valid & bit) != 0; };
  share::AttributeChange change;
  if (wants(P9_ATTR_MODE)) change.mode = setattr.mode & kPermissions;
  if (wants(P9_ATTR_UID)) change.uid = setattr.uid;
  if (wants(P9_ATTR_GID)) change.gid = setattr.gid;
  if (wants(P9_ATTR_SIZE)) change.size_bytes = setattr.size;
  if (wants(P9_ATTR_ATIME))
    change.access_time =
        TRY(time_to_set(wants(P9_ATTR_ATIME_SET), setattr.atime_sec, setattr.atime_nsec));
  if (wants(P9_ATTR_MTIME))
    change.modification_time =
        TRY(time_to_set(wants(P9_ATTR_MTIME_SET), setattr.mtime_sec, setattr.mtime_nsec));
  change.kill_privileges = fid.uid != 0;
  std::optional<share::FileId> file;
  if (fid.file != nullptr && may_write(fid.file->flags())) file = fid.file->id();
  TRY(tree.set_attributes(fid.node(), file, change));
  return answer(P9_TSETATTR);
}

Outcome<Session::Answer> Session::Execution::operator()(const Xattrwalk& walk) {
  const Fid from = TRY(find_file(walk.fid));
  std::vector<std::byte> value;
  if (walk.name.empty()) {
    const auto names = TRY(tree.list_xattrs(from.node()));
    const auto bytes = as_bytes(names.data(), names.size());
    value.assign(bytes.begin(), bytes.end());
  } else {
    value = TRY(tree.get_xattr(from.node(), walk.name));
  }
  const size_t size_bytes = value.size();
  auto xattr = XattrValue::to_read(std::move(value), session.xattr_budget_bytes_);
  if (xattr == nullptr) return refuse(ENOMEM);
  TRY(fids.add(walk.new_fid, {from.place, from.uid, nullptr, std::move(xattr)}));
  Answer reply = answer(P9_TXATTRWALK);
  reply.reply.u64(size_bytes);
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Xattrcreate& create) {
  const Fid before = TRY(find_file(create.fid));
  if (create.name.empty()) return refuse(ERANGE);  // the error of setxattr(2)
  if (create.size > share::Tree::kMaxXattrBytes) return refuse(E2BIG);
  Fid after = {before.place, before.uid, nullptr,
               XattrValue::to_write(std::string(create.name), create.size,
                                    static_cast<int>(create.flags), session.xattr_budget_bytes_)};
  if (after.xattr == nullptr) return refuse(ENOMEM);
  TRY(fids.replace(create.fid, before, std::move(after)));
  return answer(P9_TXATTRCREATE);
}

}  // namespace wick::virtio::p9
