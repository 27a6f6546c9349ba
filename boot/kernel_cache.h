// Keeps unpacked kernels in a folder of the user, so that a kernel is unpacked only once.
//
// An entry belongs to one version of a kernel file. Its name has the file's device, inode and size,
// the times of the file's last changes, to the nanosecond, and a hash of the file's start and end.
// A file that changed within the last two seconds gets no entry, because a second change might not
// change its times. When an entry is added, entries that have not been used for 30 days are
// removed, and the oldest ones beyond 512 MiB.
//
// The cache never fails a run: an entry that cannot be read or written counts as absent.
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
  KernelCache() = default;  // keeps nothing: find() finds no entry, and keep() does nothing
  // Opens the cache in the folder `path`. Creates the folder and its missing parents, but none in a
  // folder of another user. The cache keeps nothing if the folder belongs to another user, or if
  // others may write to it.
  static KernelCache open(const std::string& path);

  // Returns what keep() stored under this name; nullopt: there is no such entry, or it is damaged.
  std::optional<InputFile> find(const std::string& entry) const;
  // Returns the name of this file's entry. The name is empty if the file must not have an entry,
  // because it changed just now or has no name in a file system. `now` is a time as of time(2).
  std::string entry_of(const InputFile& kernel, time_t now = ::time(nullptr)) const;
  // Stores what was unpacked from this file, unless the file has changed since entry_of() gave the
  // name. An entry is visible only when it is complete.
  void keep(const std::string& entry, const InputFile& kernel, std::span<const std::byte> unpacked,
            time_t now = ::time(nullptr)) const;
  // Removes an entry that turned out to be damaged.
  void remove(const std::string& entry) const;

 private:
  std::optional<CacheFolder> folder_;  // nullopt: the cache keeps nothing
};

}  // namespace wick::boot
