// The requests of FuseSession for open files and directories.
#include <fcntl.h>

#include <algorithm>

#include "base/buffers.h"
#include "virtio/fuse_call.h"

namespace wick::virtio {

namespace {

// The maximum size of an answer to FUSE_READDIR and FUSE_READDIRPLUS; Linux asks for one page.
constexpr size_t kMaxDirectoryBytes = 64 << 10;

// Returns the size of a fuse_dirent; with `plus`, of a fuse_entry_out followed by a fuse_dirent.
size_t dirent_size(std::string_view name, bool plus) {
  const size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name.size());
  return plus ? size + sizeof(fuse_entry_out) : size;
}

void append(std::vector<std::byte>& to, const void* data, size_t size) {
  const auto bytes = as_bytes(data, size);
  to.insert(to.end(), bytes.begin(), bytes.end());
}

void append_dirent(std::vector<std::byte>& to, const share::DirectoryEntry& entry) {
  fuse_dirent dirent{};
  dirent.ino = entry.inode;
  dirent.off = entry.next_offset;
  dirent.namelen = static_cast<uint32_t>(entry.name.size());
  dirent.type = entry.type;
  append(to, &dirent, FUSE_NAME_OFFSET);
  append(to, entry.name.data(), entry.name.size());
  to.resize(align_up(to.size(), sizeof(uint64_t)));
}

bool kills_privileges(uint32_t open_flags) { return (open_flags & FUSE_OPEN_KILL_SUIDGID) != 0; }

}  // namespace

fuse_open_out FuseSession::open_reply(share::FileId file, bool directory) const {
  fuse_open_out out{};
  out.fh = static_cast<uint64_t>(file);
  if (cache_ == FuseCache::kAlways)
    out.open_flags = directory ? FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR : FOPEN_KEEP_CACHE;
  if (cache_ == FuseCache::kNever && !directory) out.open_flags = FOPEN_DIRECT_IO;
  return out;
}

// Writes the answer for an opened file. If the answer does not fit, closes the file, because the
// client cannot.
uint32_t FuseSession::opened(Call& call, share::FileId file, bool directory) {
  const uint32_t written = call.structures(open_reply(file, directory));
  if (written <= sizeof(fuse_out_header)) tree_.close(file);
  return written;
}

uint32_t FuseSession::open(Call& call) {
  fuse_open_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  const auto file =
      tree_.open(call.node(), static_cast<int>(in.flags), kills_privileges(in.open_flags));
  if (!file) return call.error(file.error());
  return opened(call, *file, false);
}

uint32_t FuseSession::open_directory(Call& call) {
  const auto file = tree_.open(call.node(), O_RDONLY | O_DIRECTORY);
  if (!file) return call.error(file.error());
  return opened(call, *file, true);
}

uint32_t FuseSession::create(Call& call) {
  fuse_create_in in;
  std::string_view name;
  if (!take_all(call.arguments, in, name)) return call.error(EINVAL);
  const int flags = static_cast<int>(in.flags);
  const auto made = call.request.header.opcode == FUSE_TMPFILE
                        ? tree_.create_unnamed(caller(call, in.umask), call.node(), flags, in.mode)
                        : tree_.create(caller(call, in.umask), call.node(), name, flags, in.mode,
                                       kills_privileges(in.open_flags));
  if (!made) return call.error(made.error());
  const uint32_t written =
      call.structures(fuse_entry(made->entry, valid_), open_reply(made->file, false));
  if (written <= sizeof(fuse_out_header)) {
    tree_.close(made->file);
    tree_.forget(made->entry.node, 1);
  }
  return written;
}

uint32_t FuseSession::read(Call& call) {
  fuse_read_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  const auto buffers = call.reply.data_buffers(std::min(in.size, kMaxWriteBytes));
  const auto got = tree_.read(share::FileId{in.fh}, buffers, in.offset);
  if (!got) return call.error(got.error());
  return call.reply.data(call.request.header.unique, *got);
}

// FUSE_WRITE_CACHE marks data from the guest's page cache, such as that of a memory mapping. Such
// data is written at its offset, even with O_APPEND.
uint32_t FuseSession::write(Call& call) {
  fuse_write_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  const auto& data = call.request.data;
  if (in.size > total_bytes(data) || in.size > kMaxWriteBytes) return call.error(EINVAL);
  const bool cached = (in.write_flags & FUSE_WRITE_CACHE) != 0;
  const share::WriteOptions options{
      .append = (in.flags & O_APPEND) != 0 && !cached,
      .kill_privileges = (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0};
  const auto put = tree_.write(share::FileId{in.fh}, slice(data, 0, in.size), in.offset, options);
  if (!put) return call.error(put.error());
  fuse_write_out out{};
  out.size = static_cast<uint32_t>(*put);
  return call.structures(out);
}

uint32_t FuseSession::flush(Call& call) {
  fuse_flush_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  return call.done(tree_.flush(share::FileId{in.fh}));
}

uint32_t FuseSession::release(Call& call) {
  fuse_release_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  tree_.close(share::FileId{in.fh});
  return call.error(0);
}

uint32_t FuseSession::sync(Call& call) {
  fuse_fsync_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  return call.done(tree_.sync(share::FileId{in.fh}, (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0));
}

uint32_t FuseSession::sync_file_system(Call& call) { return call.done(tree_.sync_all()); }

uint32_t FuseSession::read_directory(Call& call) {
  fuse_read_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  const bool plus = call.request.header.opcode == FUSE_READDIRPLUS;
  const size_t room = std::min({size_t{in.size}, call.reply.room_bytes(), kMaxDirectoryBytes});
  std::vector<std::byte> out;
  const auto take = [&](const share::DirectoryEntry& entry) {
    if (out.size() + dirent_size(entry.name, plus) > room) return false;
    if (plus) {
      // If the lookup fails, `found` has no node, and the client itself looks the entry up later.
      fuse_entry_out found{};
      if (entry.name != "." && entry.name != "..")
        if (const auto node = tree_.lookup(call.node(), entry.name))
          found = fuse_entry(*node, valid_);
      append(out, &found, sizeof(found));
    }
    append_dirent(out, entry);
    return true;
  };
  const auto read = tree_.read_directory(share::FileId{in.fh}, in.offset, take);
  // After an error, entries that were read before must still be sent, because their nodes have a
  // reference for the client already.
  if (!read && out.empty()) return call.error(read.error());
  return call.bytes(out);
}

uint32_t FuseSession::allocate(Call& call) {
  fuse_fallocate_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  return call.done(
      tree_.allocate(share::FileId{in.fh}, static_cast<int>(in.mode), in.offset, in.length));
}

uint32_t FuseSession::seek(Call& call) {
  fuse_lseek_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  const auto found = tree_.seek(share::FileId{in.fh}, in.offset, static_cast<int>(in.whence));
  if (!found) return call.error(found.error());
  fuse_lseek_out out{};
  out.offset = *found;
  return call.structures(out);
}

uint32_t FuseSession::copy_range(Call& call) {
  fuse_copy_file_range_in in;
  if (!call.arguments.take(in)) return call.error(EINVAL);
  const auto copied = tree_.copy_range(share::FileId{in.fh_in}, in.off_in, share::FileId{in.fh_out},
                                       in.off_out, in.len);
  if (!copied) return call.error(copied.error());
  fuse_write_out out{};
  out.size = static_cast<uint32_t>(*copied);
  return call.structures(out);
}

}  // namespace wick::virtio
