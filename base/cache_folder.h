// A user's folder for files that wick can make again, such as unpacked kernels and downloaded
// files. The files of one cache have names with a common prefix; other files of the folder are left
// alone.
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
  // Creates the folder and its missing parents. Fails if the nearest folder that exists belongs to
  // another user, so that root leaves no folders of its own in another user's home. Fails, too, if
  // others may write to the folder.
  static Result<CacheFolder> open(const std::string& path);

  const std::string& path() const { return path_; }
  int fd() const { return folder_.get(); }

  // Opens a file for reading. Returns an invalid Fd unless it is a regular file of this user that
  // others may not write to.
  Fd open_file(const std::string& name) const;

  // A new file, open for writing. Until publish() it has a temporary name, under which no other
  // process looks for it.
  struct NewFile {
    Fd fd;
    std::string name;
  };
  Result<NewFile> create_file() const;
  // Renames `new_file` to `name`, and replaces a file that has this name.
  Result<void> publish(const std::string& new_file, const std::string& name) const;
  // Removes a file. Ignores errors.
  void remove(const std::string& name) const;

  struct Limits {
    std::string_view prefix;  // the names of the cache's files begin with this
    uint64_t max_bytes = 0;   // for all files together
    // This much of `max_bytes` is left free: for a file that will be added, or for the `kept`
    // files, whose size is not counted.
    uint64_t needed_bytes = 0;
    // Files whose names begin with this are not removed. Empty: there are no such files.
    std::string_view kept = {};
  };
  // Removes files whose last use (st_mtime) is more than 30 days before `now`, files that
  // create_file() made and a killed process left behind, and then the least recently used files
  // until the size is within the limit.
  void remove_old(const Limits& limits, time_t now) const;

 private:
  CacheFolder(Fd folder, std::string path) : folder_(std::move(folder)), path_(std::move(path)) {}

  Fd folder_;
  std::string path_;
};

// Returns the path of wick's cache folder `name`; empty if the environment gives no place for it.
// `cache_home` and `home` are the values of XDG_CACHE_HOME and HOME, or nullptr.
std::string cache_folder_path(std::string_view name, const char* cache_home, const char* home);

}  // namespace wick
