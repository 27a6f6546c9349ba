// Builds the command line with which `wick gdb` starts gdb.
//
// Thread rule: a pure function.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace wick::debug {

struct GdbLaunch {
  std::string program;                 // the path of gdb
  std::string target;                  // for "target remote": the path of a socket, or HOST:PORT
  std::string vmlinux = {};            // empty: no symbols
  std::optional<uint64_t> slide = {};  // the KASLR offset to add to the vmlinux's addresses
  bool per_cpu_at_zero = false;        // see LinkedKernel
  std::vector<std::string> arguments = {};  // the user's arguments, appended at the end
};

// Returns the words of the command line. `exists` tells whether a file exists. gdb loads Linux's
// helper commands (lx-ps, $lx_current() and so on) if vmlinux-gdb.py is in the folder of the
// vmlinux, where the kernel's build puts it.
std::vector<std::string> gdb_words(const GdbLaunch& launch,
                                   const std::function<bool(const std::string& path)>& exists);

}  // namespace wick::debug
