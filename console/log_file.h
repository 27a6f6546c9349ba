// The log file of a port: it gets a copy of the guest's output, and may have a limit for its size.
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

// The limit of the log that wick itself keeps for a machine in the background.
inline constexpr uint64_t kKeptLogBytes = 16 << 20;

struct LogFile {
  std::string path;          // empty: there is no log
  uint64_t limit_bytes = 0;  // 0: the log has no limit

  LogFile() = default;
  // Makes a log without a limit.
  template <std::convertible_to<std::string> Path>
  LogFile(Path&& file) : path(std::forward<Path>(file)) {}
  LogFile(std::string file, uint64_t limit) : path(std::move(file)), limit_bytes(limit) {}
};

// Returns the name that a log gets when it has reached its limit.
inline std::string older_log(const std::string& path) { return path + ".1"; }

// Renames the log to older_log(), replacing a file of that name, and creates a new file at `path`.
// After an error the log still has its old name.
Result<Stream> begin_new_log(const std::string& path);

}  // namespace wick::console
