// A folder of the user for files that can be made again, as kernels that were unpacked and files
// that were downloaded. The files of one cache have names with a common prefix; other files of the
// folder are left alone.
//
// Thread rule: any thread; several processes may use one folder.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace wick {

class CacheFolder {
 public:
  // Creates the folder and its parents, as far as they are missing and would be in a folder of the
  // user, so that root leaves none of its own in another user's home. An error if the folder
  // belongs to another user, or if others may write to it.
  static Result<CacheFolder> open(const std::string& path);

  const std::string& path() const { return path_; }
  int fd() const { return folder_.get(); }

  // Opens a file for reading. Invalid unless it is a regular file that only this user can have
  // written.
  Fd open_file(const std::string& name) const;

  // A file for writing, which no one looks for until publish() has given it its name.
  struct NewFile {
    Fd fd;
    std::string name;
  };
  Result<NewFile> create_file() const;
  // Renames the file. It replaces one that has the name.
  Result<void> publish(const std::string& new_file, const std::string& name) const;
  // Ignores errors.
  void remove(const std::string& name) const;

  struct Limits {
    std::string_view prefix;     // of the names of the cache's files
    uint64_t max_bytes = 0;      // for all files together
    uint64_t needed_bytes = 0;   // of `max_bytes`, for a file that is being added or was just added
    std::string_view kept = {};  // not removed: names with this prefix; empty: none
  };
  // Removes files that were last used (st_mtime) more than 30 days before `now`, files of
  // create_file() that a killed process has left, and the least recently used files beyond the
  // size.
  void remove_old(const Limits& limits, time_t now) const;

 private:
  CacheFolder(Fd folder, std::string path) : folder_(std::move(folder)), path_(std::move(path)) {}

  Fd folder_;
  std::string path_;
};

// The path of the folder NAME of wick's caches; empty: none. The last two arguments are the
// environment's XDG_CACHE_HOME and HOME, or nullptr.
std::string cache_folder_path(std::string_view name, const char* cache_home, const char* home);

}  // namespace wick
