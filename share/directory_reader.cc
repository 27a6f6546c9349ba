#include "share/directory_reader.h"

#include <dirent.h>
#include <unistd.h>

#include "base/result.h"
#include "share/host_calls.h"

namespace wick::share {

Outcome<> DirectoryReader::read(const Fd& directory, uint64_t offset,
                                const std::function<bool(const DirectoryEntry&)>& take) {
  const MutexLock lock(mutex_);
  if (offset == 0 || offset != next_offset_) {
    rest_.clear();
    next_offset_ = kNone;
    TRY(succeeded(::lseek(directory.get(), static_cast<off_t>(offset), SEEK_SET)));
    next_offset_ = offset;
  }
  for (;;) {
    if (rest_.empty()) {
      rest_.resize(kMaxBytes);
      const ssize_t got = ::getdents64(directory.get(), rest_.data(), rest_.size());
      const int why = errno;
      rest_.resize(got > 0 ? static_cast<size_t>(got) : 0);
      if (got <= 0) rest_.shrink_to_fit();
      if (got < 0) return refuse(why);
      if (got == 0) return {};
    }
    for (size_t at = 0; at < rest_.size();) {
      // The kernel's records are aligned, lie within the buffer, and end their names with NUL.
      const auto* record = reinterpret_cast<const dirent64*>(rest_.data() + at);
      const DirectoryEntry entry{.name = record->d_name,
                                 .inode = record->d_ino,
                                 .next_offset = static_cast<uint64_t>(record->d_off),
                                 .type = record->d_type};
      if (!take(entry)) {
        rest_.erase(rest_.begin(), rest_.begin() + static_cast<ptrdiff_t>(at));
        return {};
      }
      next_offset_ = entry.next_offset;
      at += record->d_reclen;
    }
    rest_.clear();
  }
}

}  // namespace wick::share
