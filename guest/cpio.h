// Writes a cpio archive in memory, as an initramfs.
//
// Specification: Linux, Documentation/driver-api/early-userspace/buffer-format.rst ("newc").
//
// Thread rule: none.
#pragma once

#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wick::guest {

class Cpio {
 public:
  // Add a folder or a file. Paths have no slash at the start. Missing parent folders are added,
  // too.
  void add_folder(std::string_view path, unsigned mode = 0755);
  void add_file(std::string_view path, std::span<const std::byte> content, unsigned mode = 0644);

  // Ends the archive and returns it; nothing may be added afterwards. Its size is a multiple of 4.
  std::vector<std::byte> finish();

 private:
  void add_parents(std::string_view path);
  void add_entry(std::string_view path, unsigned mode, std::span<const std::byte> content);

  std::vector<std::byte> archive_;
  std::set<std::string, std::less<>> folders_;
  unsigned entries_ = 0;
};

}  // namespace wick::guest
