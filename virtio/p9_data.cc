// The requests that open files, read and write them, read directories, and lock files.
#include <dirent.h>
#include <fcntl.h>

#include <algorithm>

#include "base/buffers.h"
#include "virtio/p9_execution.h"

namespace wick::virtio::p9 {

using share::Outcome;
using share::refuse;

namespace {

// Converts a lock of the protocol. Its owner is the client's process `process`.
Outcome<share::RecordLock> record_lock(uint8_t type, uint64_t start, uint64_t length,
                                       uint32_t process) {
  constexpr int kTypes[] = {F_RDLCK, F_WRLCK, F_UNLCK};
  if (type >= std::size(kTypes)) return refuse(EINVAL);
  return share::RecordLock{
      .type = kTypes[type], .start = start, .length = length, .owner = process};
}

}  // namespace

Outcome<Session::Answer> Session::Execution::operator()(const Open& open) {
  const Fid before = TRY(find_file(open.fid));
  if (before.file != nullptr) return refuse(EBUSY);
  const auto attributes = TRY(tree.attributes(before.node()));
  const int flags = static_cast<int>(open.flags) & ~(O_CREAT | O_EXCL);
  Fid after = before;
  after.file = std::make_shared<OpenFile>(
      tree, TRY(tree.open(before.node(), flags, before.uid != 0)), before.place->node, flags);
  TRY(fids.replace(open.fid, before, std::move(after)));
  Answer reply = answer(P9_TLOPEN);
  reply.reply.qid(qid_of(attributes)).u32(0);  // iounit 0: only msize limits the client's I/O
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Create& create) {
  const Fid before = TRY(find_file(create.fid));
  if (before.file != nullptr) return refuse(EBUSY);
  const int flags = static_cast<int>(create.flags);
  const auto opened =
      TRY(tree.create({before.uid, create.gid}, before.node(), create.name, flags | O_CREAT,
                      create.mode & kPermissions, before.uid != 0));
  const auto node = std::make_shared<NodeReference>(tree, opened.entry.node);
  Fid after = {std::make_shared<const Place>(node, before.place->node, std::string(create.name)),
               before.uid, std::make_shared<OpenFile>(tree, opened.file, node, flags), nullptr};
  TRY(fids.replace(create.fid, before, std::move(after)));
  Answer reply = answer(P9_TLCREATE);
  reply.reply.qid(qid_of(opened.entry.attributes)).u32(0);
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Read& read) {
  const Fid fid = TRY(fids.find(read.fid));
  const auto to = slice(writable, kIoHeaderBytes, max_data_bytes(read.count));
  size_t size_bytes = 0;
  if (fid.xattr != nullptr) {
    if (fid.xattr->writable()) return refuse(EBADF);
    size_bytes = fid.xattr->read(read.offset, to);
  } else if (fid.file != nullptr) {
    size_bytes = TRY(tree.read(fid.file->id(), to, read.offset));
  } else {
    return refuse(EBADF);
  }
  Answer reply = answer(P9_TREAD);
  reply.reply.u32(static_cast<uint32_t>(size_bytes));
  reply.data_bytes = size_bytes;
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Write& write) {
  const Fid fid = TRY(fids.find(write.fid));
  size_t size_bytes = 0;
  if (fid.xattr != nullptr) {
    size_bytes = TRY(fid.xattr->write(write.offset, write.data));
  } else if (fid.file != nullptr) {
    const share::WriteOptions options = {.append = (fid.file->flags() & O_APPEND) != 0,
                                         .kill_privileges = fid.uid != 0};
    size_bytes = TRY(tree.write(fid.file->id(), write.data, write.offset, options));
  } else {
    return refuse(EBADF);
  }
  Answer reply = answer(P9_TWRITE);
  reply.reply.u32(static_cast<uint32_t>(size_bytes));
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Readdir& readdir) {
  const Fid fid = TRY(find_open(readdir.fid));
  DirectoryEntries entries(max_data_bytes(readdir.count));
  bool too_small = false;
  TRY(tree.read_directory(fid.file->id(), readdir.offset, [&](const share::DirectoryEntry& entry) {
    const Qid qid = {qid_type(DTTOIF(entry.type)), 0, entry.inode};
    const bool added = entries.add(qid, entry.next_offset, entry.type, entry.name);
    too_small = !added && entries.bytes().empty();
    return added;
  }));
  // EINVAL is the error of getdents64(2) for this case. A reply without data would mean the end of
  // the directory.
  if (too_small) return refuse(EINVAL);
  BufferCursor to(writable);
  for (size_t skipped = 0; skipped < kIoHeaderBytes;) {
    const size_t part = to.front(kIoHeaderBytes - skipped).size();
    to.advance(part);
    skipped += part;
  }
  to.write(entries.bytes());
  Answer reply = answer(P9_TREADDIR);
  reply.reply.u32(static_cast<uint32_t>(entries.bytes().size()));
  reply.data_bytes = entries.bytes().size();
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Fsync& fsync) {
  const Fid fid = TRY(find_open(fsync.fid));
  TRY(tree.sync(fid.file->id(), fsync.datasync != 0));
  return answer(P9_TFSYNC);
}

// Never waits for a lock: if another owner has the lock, the reply says P9_LOCK_BLOCKED, and a
// client that wants to wait tries again.
Outcome<Session::Answer> Session::Execution::operator()(const Lock& lock) {
  const Fid fid = TRY(find_open(lock.fid));
  const auto record = TRY(record_lock(lock.type, lock.start, lock.length, lock.proc_id));
  const bool unlocks = record.type == F_UNLCK;
  const auto owner = unlocks ? OpenFile::LockOwner::kKnown : fid.file->add_lock_owner(record.owner);
  uint8_t status = P9_LOCK_SUCCESS;
  if (owner == OpenFile::LockOwner::kTooMany) {
    status = P9_LOCK_ERROR;
  } else if (const auto locked = tree.set_lock(fid.file->id(), record); !locked) {
    if (owner == OpenFile::LockOwner::kNew) fid.file->remove_lock_owner(record.owner);
    if (locked.error() != EAGAIN && locked.error() != ENOLCK) return refuse(locked.error());
    status = locked.error() == EAGAIN ? P9_LOCK_BLOCKED : P9_LOCK_ERROR;
  } else if (unlocks && record.start == 0 && lock.length == 0) {
    fid.file->remove_lock_owner(record.owner);
  }
  Answer reply = answer(P9_TLOCK);
  reply.reply.u8(status);
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Getlock& getlock) {
  const Fid fid = TRY(find_open(getlock.fid));
  auto asked = TRY(record_lock(getlock.type, getlock.start, getlock.length, getlock.proc_id));
  // Linux sends the type UNLCK, whatever type its caller asked for, so assume a write lock.
  if (asked.type == F_UNLCK) asked.type = F_WRLCK;
  const auto found = TRY(tree.test_lock(fid.file->id(), asked));
  const bool free = found.type == F_UNLCK;
  Answer reply = answer(P9_TGETLOCK);
  reply.reply
      .u8(free                    ? P9_LOCK_TYPE_UNLCK
          : found.type == F_RDLCK ? P9_LOCK_TYPE_RDLCK
                                  : P9_LOCK_TYPE_WRLCK)
      .u64(free ? getlock.start : found.start)
      .u64(free ? getlock.length : found.length)
      .u32(free ? getlock.proc_id : 0)  // 0: the host does not tell the lock's owner
      .text(getlock.client_id);
  return reply;
}

}  // namespace wick::virtio::p9
