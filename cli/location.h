// The kernel and the initramfs for `--location`: those of an installer in a distribution's install
// tree, a folder or a URL.
//
// A folder's files are used where they are. A server's are downloaded, and kept for the next run
// (download_cache.h). If the tree has SHA-256 checksums of them, wrong ones are an error.
//
// Thread rule: one thread at a time, which waits for the network.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/download.h"

namespace wick::cli {

struct LocationFiles {
  std::string kernel_path;
  std::string initrd_path;
  std::string distribution;  // for a log line: "Fedora 39", printable
  bool checked = false;      // both have checksums in the tree, and these are right
  // What the installer needs on its command line to find the rest of its files; empty: nothing,
  // or the tree is in a folder of the host.
  std::string append;
};

// `location` is the path of a folder, or an http, https or ftp URL. `cache_folder` is created if
// it is needed and missing.
Result<LocationFiles> fetch_location(const std::string& location, const std::string& cache_folder,
                                     const DownloadTimes& times = {});

// The folder for fetch_location(); empty: none. The arguments are the environment's
// XDG_CACHE_HOME and HOME, or nullptr.
std::string location_cache_folder(const char* cache_home, const char* home);

}  // namespace wick::cli
