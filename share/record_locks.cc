#include "share/record_locks.h"

#include <fcntl.h>

#include "share/host_calls.h"
#include "share/tree.h"

namespace wick::share {

namespace {

Outcome<struct flock> host_lock(const RecordLock& lock) {
  if (lock.type != F_RDLCK && lock.type != F_WRLCK && lock.type != F_UNLCK) return refuse(EINVAL);
  if (lock.start > INT64_MAX || lock.length > INT64_MAX - lock.start) return refuse(EINVAL);
  struct flock host {};
  host.l_type = static_cast<short>(lock.type);
  host.l_whence = SEEK_SET;
  host.l_start = static_cast<off_t>(lock.start);
  host.l_len = static_cast<off_t>(lock.length);
  return host;
}

}  // namespace

Outcome<> RecordLocks::set(NodeId node, const Fd& file, const RecordLock& lock, bool writable) {
  struct flock host = TRY(host_lock(lock));
  const Key key{static_cast<uint64_t>(node), lock.owner};
  const MutexLock guard(mutex_);
  auto found = descriptions_.find(key);
  if (found == descriptions_.end()) {
    if (lock.type == F_UNLCK) return {};
    if (descriptions_.size() >= max_owners_) return refuse(ENOLCK);
    // For F_RDLCK the kernel demands a description that is open for reading, and for F_WRLCK one
    // that is open for writing. An owner may set a lock of one type first and of the other type
    // later.
    auto fd = reopen(file, writable ? O_RDWR : O_RDONLY);
    if (!fd && writable) fd = reopen(file, lock.type == F_WRLCK ? O_WRONLY : O_RDONLY);
    if (!fd) return refuse(fd.error());
    found = descriptions_.emplace(key, Description{*std::move(fd)}).first;
  }
  const bool all = lock.type == F_UNLCK && lock.start == 0 && lock.length == 0;
  // Unlocking the middle of a lock makes two locks of it. So unlocking counts like locking, but has
  // a higher limit.
  const size_t most = lock.type == F_UNLCK ? 2 * kMaxSets : kMaxSets;
  auto done = sets_ < most || all ? succeeded(::fcntl(found->second.fd.get(), F_OFD_SETLK, &host))
                                  : Outcome<>(refuse(ENOLCK));
  if (done && !all) ++sets_, ++found->second.sets;
  if (all || found->second.sets == 0) {
    sets_ -= found->second.sets;
    descriptions_.erase(found);
  }
  return done;
}

Outcome<RecordLock> RecordLocks::test(NodeId node, const Fd& file, const RecordLock& lock) {
  struct flock host = TRY(host_lock(lock));
  if (lock.type == F_UNLCK) return refuse(EINVAL);
  const MutexLock guard(mutex_);
  const auto found = descriptions_.find({static_cast<uint64_t>(node), lock.owner});
  Fd fresh;
  if (found == descriptions_.end()) {
    // F_OFD_GETLK takes a description of any access mode.
    auto opened = reopen(file, O_RDONLY);
    if (!opened) opened = reopen(file, O_WRONLY);
    fresh = TRY(std::move(opened));
  }
  const Fd& fd = found == descriptions_.end() ? fresh : found->second.fd;
  TRY(succeeded(::fcntl(fd.get(), F_OFD_GETLK, &host)));
  return RecordLock{.type = host.l_type,
                    .start = static_cast<uint64_t>(host.l_start),
                    .length = static_cast<uint64_t>(host.l_len),
                    .owner = 0};
}

void RecordLocks::release(NodeId node, uint64_t owner) {
  const MutexLock guard(mutex_);
  const auto found = descriptions_.find({static_cast<uint64_t>(node), owner});
  if (found == descriptions_.end()) return;
  sets_ -= found->second.sets;
  descriptions_.erase(found);
}

void RecordLocks::clear() {
  const MutexLock guard(mutex_);
  descriptions_.clear();
  sets_ = 0;
}

}  // namespace wick::share
