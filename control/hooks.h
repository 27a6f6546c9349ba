// Functions that control/ calls and cli/services.cc provides.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"

namespace wick::control {

// What dump-guest-memory asks for (QEMU QMP Reference Manual).
struct DumpRequest {
  enum class Format { kElf, kKdumpZlib };
  std::string path = {};
  Format format = Format::kElf;
  bool paging = false;  // by the guest's linear addresses
  // Only this part of the physical memory, in bytes; both are set or none.
  std::optional<uint64_t> begin = {}, length = {};
};

struct Hooks {
  // Writes a core of the machine, which is paused from the call until `done`. Both functions may
  // be called on any thread; `done` once. An empty hook makes dump-guest-memory an error.
  std::function<void(const DumpRequest& request,
                     std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress,
                     std::function<void(Result<void>)> done)>
      dump;
  // Types a text on a console, as its user would; for sendkey. An empty hook: a refusal.
  std::function<Result<void>(const std::string& console_id, const std::string& text)> type;
  std::string version = "wick";  // "wick 0.1.0"
};

}  // namespace wick::control
