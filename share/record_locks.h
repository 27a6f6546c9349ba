// The record locks of a share's guest, as OFD locks on the host. Each pair of a file and an owner
// has an open file description of its own, because the kernel merges the locks of one description.
//
// Thread rule: any thread may call any function.
#pragma once

#include <map>
#include <utility>

#include "base/mutex.h"
#include "share/node_table.h"

namespace wick::share {

class RecordLocks {
 public:
  // `max_owners`: the maximum number of (node, lock owner) pairs that hold locks. Each pair has a
  // descriptor.
  explicit RecordLocks(size_t max_owners) : max_owners_(max_owners) {}

  // Sets or removes a lock. `file` is a descriptor of `node`, a regular file; `writable`: it is
  // open for writing. Fails with EAGAIN if another owner's lock conflicts, and with ENOLCK if the
  // guest has too many locks.
  Outcome<> set(NodeId node, const Fd& file, const RecordLock& lock, bool writable)
      EXCLUDES(mutex_);
  Outcome<RecordLock> test(NodeId node, const Fd& file, const RecordLock& lock) EXCLUDES(mutex_);
  void release(NodeId node, uint64_t owner) EXCLUDES(mutex_);
  void clear() EXCLUDES(mutex_);

 private:
  // The maximum number of locks that are set. Each can add two records to a list of the file on the
  // host, which the kernel walks with a spinlock held.
  static constexpr size_t kMaxSets = 4 << 10;

  struct Description {
    Fd fd;
    size_t sets = 0;  // how many locks were set since this owner last released all
  };
  using Key = std::pair<uint64_t, uint64_t>;  // a node and an owner

  const size_t max_owners_;

  Mutex mutex_;
  std::map<Key, Description> descriptions_ GUARDED_BY(mutex_);
  size_t sets_ GUARDED_BY(mutex_) = 0;  // the sum over all descriptions
};

}  // namespace wick::share
