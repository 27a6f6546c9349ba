// System calls of share/ that have no wrapper in the C library, or that must be used in a
// particular way to be safe.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "share/node_table.h"
#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

// Returns an error, the value of errno, if a system call has returned -1.
template <typename T>
Outcome<> succeeded(T returned) {
  if (returned == -1) return refuse(errno);
  return {};
}

// Returns a path that leads to the file of an O_PATH descriptor. It involves no name of that file,
// so nobody can redirect it. If the file is a symbolic link, the path leads to the link itself.
std::string path_of(const Fd& fd);

// Gives a descriptor a number that select(2) cannot handle, unless its number is low. Libraries
// that wick uses call select(2) and need smaller numbers, and a guest can make a share use
// thousands of descriptors.
Fd out_of_the_way(Fd fd);

// Opens `path`, relative to `directory`, as an O_PATH descriptor. The path cannot lead out of
// `directory`. Symbolic links are followed within the path, but not in its last component.
Outcome<Fd> open_beneath(const Fd& directory, const std::string& path, int more_flags = 0);

// Opens the file at the path that consists of `names`, relative to `directory`, as an O_PATH
// descriptor. No symbolic link is followed. The path may be longer than PATH_MAX.
Outcome<Fd> open_path(const Fd& directory, std::span<const std::string> names);

// Opens the file of `node`, a regular file or a directory, for I/O.
Outcome<Fd> reopen(const Fd& node, int flags);

// Calls statx(2) for a descriptor of any kind.
Outcome<Attributes> stat_of(const Fd& fd);

// Returns the key of the file that an entry of a directory names. A symbolic link is not followed.
Outcome<FileKey> key_at(const Fd& directory, const std::string& name);

// Returns true if the file system of `fd` is an interface of the kernel. Some regular files of such
// a file system give access to the host's processes and devices (/proc/PID/mem).
Outcome<bool> is_kernel_interface(const Fd& fd);

// Fails with EINVAL or ENAMETOOLONG unless `name` can be a component of a path.
Outcome<> check_component(std::string_view name);
// As check_component(), but also refuses "." and "..", which cannot be made, renamed or removed.
Outcome<> check_entry_name(std::string_view name);

}  // namespace wick::share
