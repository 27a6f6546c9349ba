// Keeps downloaded files in a folder of the user, so that they are downloaded only once.
//
// A file belongs to its URL. Beside it is a file NAME.about with its checksum and the server's
// validators. A kept file is used again if it has the checksum that the caller expects, or else if
// it is undamaged and the server says that it has not changed. Files that nobody has used for 30
// days, and the oldest ones beyond 4 GiB, are removed when another is added.
//
// Thread rule: any thread; several processes may use one folder.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "cli/download.h"

namespace wick::cli {

class DownloadCache {
 public:
  // Creates the folder and its parents, as far as they are missing. An error if it belongs to
  // another user, or if others may write to it.
  static Result<DownloadCache> open(const std::string& folder);

  // Checks a checksum: an error if the file must not be used.
  using Check = std::function<Result<void>(const std::string& sha256)>;

  // The path of a file with the content of `url`. `sha256` is its checksum, or empty if that is
  // not known; `check` is called with the checksum of a downloaded file, which is visible only if
  // it is complete and has passed.
  Result<std::string> fetch(Downloader& downloader, const std::string& url, uint64_t max_bytes,
                            const std::string& sha256, const Check& check) const;

  // The name of the entry of a URL. Public for tests.
  static std::string entry_of(const std::string& url);

 private:
  struct Entry;

  DownloadCache(Fd folder, std::string path) : folder_(std::move(folder)), path_(std::move(path)) {}
  Entry find(const std::string& name) const;
  Fd open_own(const std::string& name) const;
  void mark_used(const std::string& name) const;
  Result<std::string> new_file(Fd& fd) const;
  Result<void> put(const std::string& from, const std::string& name) const;
  void write_about(const std::string& name, const std::string& url, const Downloaded& got) const;
  void remove_old(const std::string& kept, time_t now) const;

  Fd folder_;
  std::string path_;
};

}  // namespace wick::cli
