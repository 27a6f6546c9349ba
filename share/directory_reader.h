// Reads an open directory by getdents64(2), from any offset that it has returned before. An offset
// is a d_off, which the host's file system chooses. In some file systems the offset is the number
// of entries before it (tmpfs before Linux 6.6), which changes when one of these is removed. So a
// call that continues where the last one ended does not seek. It starts with the entries that were
// read before and not taken.
//
// Thread rule: any thread may call read(); one call runs at a time.
#pragma once

#include <functional>
#include <vector>

#include "base/fd.h"
#include "base/mutex.h"
#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

class DirectoryReader {
 public:
  // As Tree::read_directory(), with the inode numbers of the host. `take` must not call read()
  // of the same directory. `directory` must be open for reading, for this object only.
  Outcome<> read(const Fd& directory, uint64_t offset,
                 const std::function<bool(const DirectoryEntry&)>& take) EXCLUDES(mutex_);

 private:
  // The buffer of an open directory is small, because a guest may have thousands of directories
  // open.
  static constexpr size_t kMaxBytes = 2048;

  Mutex mutex_;
  std::vector<char> rest_ GUARDED_BY(mutex_);        // records that nobody has taken
  uint64_t next_offset_ GUARDED_BY(mutex_) = kNone;  // the offset of the first of these
  static constexpr uint64_t kNone = UINT64_MAX;      // not an offset of any file system
};

}  // namespace wick::share
