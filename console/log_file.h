// The file that gets a copy of a guest's output, and its limit.
//
// Thread rule: the loop's thread, or before the loop runs.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"
#include "base/stream.h"

namespace wick::console {

// Of the log that wick itself keeps for a machine in the background.
inline constexpr uint64_t kKeptLogBytes = 16 << 20;

struct LogFile {
  std::string path;          // empty: none
  uint64_t limit_bytes = 0;  // 0: none

  LogFile() = default;
  // A log without a limit.
  template <std::convertible_to<std::string> Path>
  LogFile(Path&& file) : path(std::forward<Path>(file)) {}
  LogFile(std::string file, uint64_t limit) : path(std::move(file)), limit_bytes(limit) {}
};

// Where the content goes when a log has reached its limit.
inline std::string older_log(const std::string& path) { return path + ".1"; }

// Renames the log to older_log(), which is replaced, and creates a new file. On an error the log
// stays where it is.
Result<Stream> begin_new_log(const std::string& path);

}  // namespace wick::console
