// Files that a test adds to an initramfs.
//
// Thread rule: pure functions.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace wick::lab {

// A copy of `initrd` with more files, by path without the first slash; their folders are made.
// The kernel unpacks one archive after the other.
// Specification: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
std::string extend_initramfs(const std::string& initrd,
                             const std::map<std::string, std::string>& files);

// Modules of Debian's kernel, which is the lab's, and those that they need, in the order of
// insmod: file names and contents. The kernel has some of them built in.
struct Module {
  std::string name;  // "bochs.ko"
  std::string content;
};
std::vector<Module> generic_modules(const std::vector<std::string>& names);

}  // namespace wick::lab
