#include "share/directory_reader.h"

#include <dirent.h>
#include <unistd.h>

#include <array>

#include "base/result.h"
#include "share/host_calls.h"

namespace wick::share {

Outcome<> DirectoryReader::read(const Fd& directory, uint64_t offset,
                                const std::function<bool(const DirectoryEntry&)>& take) {
  alignas(dirent64) std::array<char, 8 << 10> records;
  const MutexLock lock(mutex_);
  TRY(succeeded(::lseek(directory.get(), static_cast<off_t>(offset), SEEK_SET)));
  for (;;) {
    const ssize_t got = ::getdents64(directory.get(), records.data(), records.size());
    if (got < 0) return refuse(errno);
    if (got == 0) return {};
    for (size_t at = 0; at < static_cast<size_t>(got);) {
      // The kernel's records are aligned, lie within the buffer, and end their names with NUL.
      const auto* record = reinterpret_cast<const dirent64*>(records.data() + at);
      const DirectoryEntry entry{.name = record->d_name,
                                 .inode = record->d_ino,
                                 .next_offset = static_cast<uint64_t>(record->d_off),
                                 .type = record->d_type};
      if (!take(entry)) return {};
      at += record->d_reclen;
    }
  }
}

}  // namespace wick::share
