#include "share/host_calls.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "share/tree.h"

namespace wick::share {

namespace {

constexpr int kFirstHighDescriptor = 1024;  // FD_SETSIZE
constexpr int kLowDescriptors = 256;        // lower descriptors are not moved

// The magic numbers of file systems that are interfaces of the kernel, by their names in
// <linux/magic.h>. Old headers lack some of these names.
constexpr std::array<uint64_t, 19> kKernelInterfaces = {PROC_SUPER_MAGIC,
                                                        SYSFS_MAGIC,
                                                        DEBUGFS_MAGIC,
                                                        TRACEFS_MAGIC,
                                                        SECURITYFS_MAGIC,
                                                        CGROUP_SUPER_MAGIC,
                                                        CGROUP2_SUPER_MAGIC,
                                                        BPF_FS_MAGIC,
                                                        SELINUX_MAGIC,
                                                        SMACK_MAGIC,
                                                        PSTOREFS_MAGIC,
                                                        EFIVARFS_MAGIC,
                                                        BINFMTFS_MAGIC,
                                                        DEVPTS_SUPER_MAGIC,
                                                        RDTGROUP_SUPER_MAGIC,
                                                        0x62656570 /* configfs */,
                                                        0x65735543 /* fusectl */,
                                                        0x19800202 /* mqueue */,
                                                        NSFS_MAGIC};

}  // namespace

std::string path_of(const Fd& fd) { return fmt::format("/proc/self/fd/{}", fd.get()); }

Fd out_of_the_way(Fd fd) {
  if (fd.get() < kLowDescriptors || fd.get() >= kFirstHighDescriptor) return fd;
  Fd moved(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstHighDescriptor));
  return moved.valid() ? std::move(moved) : std::move(fd);
}

namespace {

Outcome<Fd> open_resolved(const Fd& directory, const std::string& path, int more_flags,
                          uint64_t more_resolve) {
  open_how how{};
  how.flags = static_cast<uint64_t>(O_PATH | O_NOFOLLOW | O_CLOEXEC | more_flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | more_resolve;
  // With RESOLVE_BENEATH, the kernel answers EAGAIN if another process has renamed something
  // meanwhile.
  constexpr int kAttempts = 32;
  for (int attempt = 0;; ++attempt) {
    Fd fd(
        static_cast<int>(::syscall(SYS_openat2, directory.get(), path.c_str(), &how, sizeof(how))));
    if (fd.valid()) return out_of_the_way(std::move(fd));
    if (errno != EAGAIN || attempt == kAttempts) return refuse(errno);
  }
}

}  // namespace

Outcome<Fd> open_beneath(const Fd& directory, const std::string& path, int more_flags) {
  return open_resolved(directory, path, more_flags, 0);
}

Outcome<Fd> open_path(const Fd& directory, std::span<const std::string> names) {
  constexpr size_t kMaxPathBytes = 3000;  // one name more stays below PATH_MAX
  Fd reached;
  std::string path;
  for (size_t i = 0; i < names.size(); ++i) {
    path += (path.empty() ? "" : "/") + names[i];
    if (i + 1 < names.size() && path.size() < kMaxPathBytes) continue;
    reached =
        TRY(open_resolved(reached.valid() ? reached : directory, path, 0, RESOLVE_NO_SYMLINKS));
    path.clear();
  }
  return reached;
}

Outcome<Fd> reopen(const Fd& node, int flags) {
  Fd fd(::open(path_of(node).c_str(), flags | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid()) return refuse(errno);
  return out_of_the_way(std::move(fd));
}

Outcome<Attributes> stat_of(const Fd& fd) {
  Attributes attributes{};
  TRY(succeeded(::statx(fd.get(), "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT,
                        STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &attributes)));
  return attributes;
}

Outcome<FileKey> key_at(const Fd& directory, const std::string& name) {
  Attributes attributes{};
  TRY(succeeded(::statx(directory.get(), name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                        STATX_INO | STATX_MNT_ID, &attributes)));
  return key_of(attributes);
}

Outcome<bool> is_kernel_interface(const Fd& fd) {
  struct statfs status {};
  TRY(succeeded(::fstatfs(fd.get(), &status)));
  return std::ranges::find(kKernelInterfaces, static_cast<uint64_t>(status.f_type) & UINT32_MAX) !=
         kKernelInterfaces.end();
}

Outcome<> check_component(std::string_view name) {
  if (name.empty() || name.find('/') != name.npos || name.find('\0') != name.npos)
    return refuse(EINVAL);
  if (name.size() > Tree::kMaxNameBytes) return refuse(ENAMETOOLONG);
  return {};
}

Outcome<> check_entry_name(std::string_view name) {
  if (name == "." || name == "..") return refuse(EINVAL);
  return check_component(name);
}

}  // namespace wick::share
