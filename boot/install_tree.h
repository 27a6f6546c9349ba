// Finds the kernel and the initramfs of an installer in a distribution's install tree: a mirror,
// a folder of one, or the files of a CD.
//
// Everything in a tree is hostile: files that it names never lie outside of it, and what is read
// of it is bounded.
//
// Thread rule: any thread; a tree belongs to one.
//
// Specification: productmd, "Treeinfo file format 1.2"; sha256sum(1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wick::boot {

// The files of a tree, in a folder or on a server. Paths are relative to its root and
// is_inside_tree(). Errors are those of the host: a server that does not answer.
class InstallTree {
 public:
  virtual ~InstallTree() = default;

  // For messages: the folder or the URL.
  virtual const std::string& name() const = 0;
  virtual Result<bool> has(const std::string& path) = 0;
  // The content of a small file; nullopt: there is none. An error if it has more bytes.
  virtual Result<std::optional<std::string>> read(const std::string& path, size_t max_bytes) = 0;
};

struct TreeFile {
  std::string path;
  std::string sha256;     // empty: the tree has no checksum of this file
  std::string checksums;  // the file of the tree that has the checksum
};

struct InstallFiles {
  std::string distribution;  // printable, "Fedora 39"
  TreeFile kernel;
  TreeFile initrd;
  // The kernel's argument, up to '=', that tells the installer the tree's URL; empty: it needs
  // none.
  std::string repository_argument;
};

// If nothing is found, the error lists what was looked for.
Result<InstallFiles> find_install_files(InstallTree& tree);

// Whether a path that a tree names is relative, leads nowhere above the tree, and is printable
// ASCII of reasonable length.
bool is_inside_tree(std::string_view path);

// An error if the tree has another checksum of this file. `name` is for the message.
Result<void> check_sha256(const TreeFile& file, const std::string& name, const std::string& sha256);

}  // namespace wick::boot
