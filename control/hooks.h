// Functions that control/ calls and cli/services.cc provides.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"

namespace wick::control {

// A request of dump-guest-memory (QEMU QMP Reference Manual).
struct DumpRequest {
  enum class Format { kElf, kKdumpZlib };
  std::string path = {};
  Format format = Format::kElf;
  bool paging = false;  // true: the dump maps memory by the guest's linear addresses
  // The part of the physical memory to write, in bytes. Both are set, or neither; neither means all
  // memory.
  std::optional<uint64_t> begin = {}, length = {};
};

struct Hooks {
  // Writes a core of the machine, which stays paused from the call until `done` is called.
  // `progress` and `done` may be called on any thread; `done` is called once. An empty hook makes
  // dump-guest-memory an error.
  std::function<void(const DumpRequest& request,
                     std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress,
                     std::function<void(Result<void>)> done)>
      dump;
  // Types a text on a console, as the console's user would; for sendkey. If the hook is empty,
  // sendkey refuses a SysRq that must be typed on a console.
  std::function<Result<void>(const std::string& console_id, const std::string& text)> type;
  std::string version = "wick";  // such as "wick 0.1.0"
};

}  // namespace wick::control
