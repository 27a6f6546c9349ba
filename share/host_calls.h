// System calls of share/ that have no wrapper in the C library, or that need a rule.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "share/node_table.h"
#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

// The errno value of a call that returned -1.
template <typename T>
Outcome<> succeeded(T returned) {
  if (returned == -1) return refuse(errno);
  return {};
}

// A path that leads to the file of an O_PATH descriptor. Following it involves no other name,
// so it cannot be redirected; a symbolic link that the descriptor refers to is not followed.
std::string path_of(const Fd& fd);

// Moves a descriptor above those that select(2) can handle, because libraries that wick uses
// call it, and a guest can make a share use thousands of descriptors.
Fd out_of_the_way(Fd fd);

// Opens the last component of `path`, which must lie below `directory`, as an O_PATH
// descriptor. No symbolic link is followed.
Outcome<Fd> open_beneath(const Fd& directory, const std::string& path, int more_flags = 0);

// Opens what the names lead to, each in the folder before, through no symbolic link. The path may
// be longer than PATH_MAX.
Outcome<Fd> open_path(const Fd& directory, std::span<const std::string> names);

// Opens the file of `node`, a regular file or a directory, for I/O.
Outcome<Fd> reopen(const Fd& node, int flags);

// statx(2) of a descriptor, of any kind.
Outcome<Attributes> stat_of(const Fd& fd);

// What tells an entry of a directory apart from other files.
Outcome<FileKey> key_at(const Fd& directory, const std::string& name);

// True if the file system of `fd` is an interface of the kernel. Some of its regular
// files give access to the host's processes and devices (/proc/PID/mem).
Outcome<bool> is_kernel_interface(const Fd& fd);

// Returns EINVAL or ENAMETOOLONG unless `name` can be a component of a path.
Outcome<> check_component(std::string_view name);
// As check_component(), and refuses "." and "..", which are not names of new or old entries.
Outcome<> check_entry_name(std::string_view name);

}  // namespace wick::share
