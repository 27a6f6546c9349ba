// The modules of a kernel: which files must be loaded, and in which order, so that a guest has
// certain drivers.
//
// Specification: modules.dep(5); Linux, Documentation/kbuild/modules.rst and kbuild.rst
// (modules.order, modules.builtin); include/linux/moduleparam.h (__MODULE_INFO, "depends=").
//
// Thread rule: none.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick::guest {

class Modules {
 public:
  // Describes a kernel that has everything built in.
  Modules() = default;
  // Reads the modules in /lib/modules/VERSION, or in another folder with the same layout.
  static Result<Modules> open_installed(const std::string& folder);
  // Reads the modules in a build tree, which has no modules.dep.
  static Result<Modules> open_tree(const std::string& folder);
  // Calls open_installed() or open_tree(), whichever fits the files in the folder.
  static Result<Modules> open(const std::string& folder);

  // Returns the paths of the files for the modules of these names ("virtio_pci"). Each path appears
  // once, after those of the modules that it depends on. Modules that are built in are left out.
  // Fails if a module is missing and not built in. If the folder has no list of what is built in, a
  // missing module counts as built in.
  Result<std::vector<std::string>> resolve(std::span<const std::string_view> names) const;

 private:
  struct File {
    std::string path;
    std::vector<std::string> depends;  // names of modules
    bool has_depends = false;          // false: the file's .modinfo must be read
  };

  Result<void> add(std::string_view name, std::set<std::string, std::less<>>& seen,
                   std::vector<std::string>& files) const;
  Result<void> read_builtin();

  std::string folder_;                              // empty: everything is built in
  std::map<std::string, File, std::less<>> files_;  // the modules that are files, by name
  std::set<std::string, std::less<>> builtin_;
  bool has_builtin_ = false;  // there is a list of what is built in
};

// Returns the content of a module. A compressed file (.xz, .zst, .gz) is decompressed.
Result<std::vector<std::byte>> read_module(const std::string& path);

// Returns the names of the modules that `module`, the content of a .ko file, depends on.
std::vector<std::string> depends_of(std::span<const std::byte> module);

// Returns the name of the module in a file: "virtio_pci" for "…/virtio-pci.ko.xz"; empty if the
// file is not a module.
std::string module_name(std::string_view path);

}  // namespace wick::guest
