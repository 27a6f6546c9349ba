// Keeps unpacked kernels in a folder of the user, so that a kernel is unpacked only once.
//
// An entry belongs to a file: device, inode, size, the times of its last changes, to the
// nanosecond, and a hash of its start and end. A file that changed within the last two seconds
// gets no entry, because a second change might not change its times. Entries that nobody has
// used for 30 days, and the oldest ones beyond 512 MiB, are removed when another is added.
//
// The cache never fails a run: what cannot be read or written is as if it were absent.
//
// Thread rule: any thread; several processes may use one folder.
#pragma once

#include <cstddef>
#include <ctime>
#include <optional>
#include <span>
#include <string>

#include "base/cache_folder.h"
#include "boot/input_file.h"

namespace wick::boot {

class KernelCache {
 public:
  KernelCache() = default;  // keeps nothing
  // Creates the folder and its parents, as far as they are missing and would be in a folder of
  // the user. Keeps nothing if the folder belongs to another user, or if others may write to it.
  static KernelCache open(const std::string& path);

  // What keep() got under this name.
  std::optional<InputFile> find(const std::string& entry) const;
  // The name of the entry of this file; empty: it has none, because it changed just now or has
  // no name in a file system. `now` as of time(2).
  std::string entry_of(const InputFile& kernel, time_t now = ::time(nullptr)) const;
  // Keeps what was unpacked from this file, unless the file has changed since entry_of() gave
  // the name. An entry is visible only when it is complete.
  void keep(const std::string& entry, const InputFile& kernel, std::span<const std::byte> unpacked,
            time_t now = ::time(nullptr)) const;
  // For an entry that turned out to be damaged.
  void remove(const std::string& entry) const;

 private:
  std::optional<CacheFolder> folder_;  // none: keeps nothing
};

}  // namespace wick::boot
