// Keeps downloaded files in a folder of the user, so that they are downloaded only once.
//
// Each URL has one file, and beside it a file NAME.about with its checksum and the server's
// validators. A kept file is used again in two cases: it has the checksum that the caller expects;
// or the caller expects no checksum, the file is undamaged, and the server says that its content
// has not changed. When a file is added, files that have not been used for 30 days are removed, and
// the oldest ones beyond 4 GiB.
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
  // Opens the cache in the folder `path`, which must be the user's own (CacheFolder::open).
  static Result<DownloadCache> open(const std::string& path);

  // Checks the checksum of a downloaded file; fails if the file must not be used.
  using Check = std::function<Result<void>(const std::string& sha256)>;

  // Returns the path of a file with the content of `url`, which is downloaded if necessary.
  // `sha256` is the expected checksum; empty: it is not known. `check` gets the checksum of a
  // downloaded file, which becomes visible only if it is complete and `check` succeeds.
  Result<std::string> fetch(Downloader& downloader, const std::string& url, uint64_t max_bytes,
                            const std::string& sha256, const Check& check) const;

  // Returns the name of a URL's entry. Public for tests.
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
