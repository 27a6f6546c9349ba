// Finds the kernel and the initramfs of an installer in a distribution's install tree: a mirror,
// a folder of one, or the files of a CD.
//
// Everything in a tree is hostile: a tree cannot name files outside of it, and the size of what is
// read from it is bounded.
//
// Thread rule: any thread; each InstallTree belongs to one thread.
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

// The files of a tree, in a folder or on a server. Paths are relative to the tree's root and fulfil
// is_inside_tree(). Functions fail only for reasons of the host, for instance if a server does not
// answer.
class InstallTree {
 public:
  virtual ~InstallTree() = default;

  // Returns the folder or the URL, for messages.
  virtual const std::string& name() const = 0;
  virtual Result<bool> has(const std::string& path) = 0;
  // Returns the content of a small file; nullopt: there is no such file. Fails if the file has more
  // than `max_bytes`.
  virtual Result<std::optional<std::string>> read(const std::string& path, size_t max_bytes) = 0;
};

struct TreeFile {
  std::string path;
  std::string sha256;     // empty: the tree has no checksum of this file
  std::string checksums;  // the file of the tree that contains the checksum
};

struct InstallFiles {
  std::string distribution;  // its name for the user, for instance "Fedora 39"; printable
  TreeFile kernel;
  TreeFile initrd;
  // The name of the kernel parameter, including '=', that gives the installer the tree's URL;
  // empty: the installer needs none.
  std::string repository_argument;
};

// Finds the installer of `tree`. If there is none, the error lists the files that were looked for.
Result<InstallFiles> find_install_files(InstallTree& tree);

// Returns true if a path that a tree names is relative, leads nowhere above the tree, and is
// printable ASCII of at most 512 bytes.
bool is_inside_tree(std::string_view path);

// Fails if `sha256` differs from the checksum that the tree has of this file. `name` is for the
// message.
Result<void> check_sha256(const TreeFile& file, const std::string& name, const std::string& sha256);

}  // namespace wick::boot
