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
  // A kernel that has everything built in.
  Modules() = default;
  // The modules in /lib/modules/VERSION, or another folder of that shape.
  static Result<Modules> open_installed(const std::string& folder);
  // Those in a build tree, which has no modules.dep.
  static Result<Modules> open_tree(const std::string& folder);
  // Either of them, by the files that are there.
  static Result<Modules> open(const std::string& folder);

  // The paths of the files for the modules of these names ("virtio_pci"), each once, behind those
  // that it depends on. Modules that are built in are left out. Fails if one is missing.
  Result<std::vector<std::string>> resolve(std::span<const std::string_view> names) const;

 private:
  struct File {
    std::string path;
    std::vector<std::string> depends;  // names
    bool has_depends = false;          // false: its .modinfo must be read
  };

  Result<void> add(std::string_view name, std::set<std::string, std::less<>>& seen,
                   std::vector<std::string>& files) const;
  Result<void> read_builtin();

  std::string folder_;                              // empty: everything is built in
  std::map<std::string, File, std::less<>> files_;  // by name
  std::set<std::string, std::less<>> builtin_;
  bool has_builtin_ = false;  // there is a list of what is built in
};

// The content of a module, decompressed if its file is (.xz, .zst, .gz).
Result<std::vector<std::byte>> read_module(const std::string& path);

// The modules that `module`, the content of a .ko file, depends on.
std::vector<std::string> depends_of(std::span<const std::byte> module);

// The name of the module in a file: "virtio_pci" for "…/virtio-pci.ko.xz"; empty if it is none.
std::string module_name(std::string_view path);

}  // namespace wick::guest
