// Reads an open directory by getdents64(2), from any offset that it has returned before. An
// offset is d_off, which the host's file system chooses. Between two calls no entries are
// kept, because a guest may have thousands of directories open.
//
// Thread rule: any thread may call read(); one call runs at a time.
#pragma once

#include <functional>

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
  Mutex mutex_;  // held between lseek(2) and getdents64(2)
};

}  // namespace wick::share
