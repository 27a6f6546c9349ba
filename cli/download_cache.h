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
#include <functional>
#include <string>

#include "base/cache_folder.h"
#include "base/result.h"
#include "cli/download.h"

namespace wick::cli {

class DownloadCache {
 public:
  // The folder must be the user's own (CacheFolder::open).
  static Result<DownloadCache> open(const std::string& path);

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

  explicit DownloadCache(CacheFolder folder) : folder_(std::move(folder)) {}
  Entry find(const std::string& name) const;
  void mark_used(const std::string& name) const;
  void write_about(const std::string& name, const std::string& url, const Downloaded& got) const;

  CacheFolder folder_;
};

}  // namespace wick::cli
