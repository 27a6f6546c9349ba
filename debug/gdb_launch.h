// The command line with which `wick gdb` starts gdb.
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
  std::string program;                 // gdb's path
  std::string target;                  // for "target remote": the path of a socket, or HOST:PORT
  std::string vmlinux = {};            // empty: no symbols
  std::optional<uint64_t> slide = {};  // of KASLR, to add to the vmlinux's addresses
  bool per_cpu_at_zero = false;        // see LinkedKernel
  std::vector<std::string> arguments = {};  // the user's own, at the end
};

// `exists` tells whether there is a file. The helpers of Linux (lx-ps, $lx_current()...) are
// loaded if vmlinux-gdb.py is beside the vmlinux, as the kernel's build leaves it there.
std::vector<std::string> gdb_words(const GdbLaunch& launch,
                                   const std::function<bool(const std::string& path)>& exists);

}  // namespace wick::debug
