// Finds the kernel and the initramfs for `--location`: those of an installer in a distribution's
// install tree, which is a folder or a URL.
//
// Files in a folder are used where they are. Files on a server are downloaded, and kept for the
// next run (download_cache.h). If the tree has SHA-256 checksums of the files, a wrong checksum is
// an error.
//
// Thread rule: one thread at a time. The calls block until the network has answered.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/download.h"

namespace wick::cli {

struct LocationFiles {
  std::string kernel_path;
  std::string initrd_path;
  std::string distribution;  // its name for a log line, for instance "Fedora 39"; printable
  bool checked = false;      // true: the tree has correct checksums of both files
  // The kernel parameter with which the installer finds the rest of its files. Empty: the installer
  // needs none, the tree is in a folder of the host, or its URL contains a password.
  std::string append;
};

// Finds or downloads the files. `location` is the path of a folder, or an http, https or ftp URL.
// `cache_folder` is created if it is needed and missing.
Result<LocationFiles> fetch_location(const std::string& location, const std::string& cache_folder,
                                     const DownloadTimes& times = {});

// Returns the cache folder for fetch_location(); empty: none. The arguments are the environment's
// XDG_CACHE_HOME and HOME, or nullptr.
std::string location_cache_folder(const char* cache_home, const char* home);

}  // namespace wick::cli
