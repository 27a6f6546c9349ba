// Finds kernels as distributions install them: the newest in a folder, the initramfs that
// belongs to a kernel, and its configuration.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick::boot {

// Returns the path of the newest vmlinuz-VERSION in `folder`; a plain vmlinuz counts as the oldest.
// Rescue kernels and backup copies are ignored.
Result<std::string> newest_kernel(const std::string& folder);

// Returns the path of the initramfs that belongs to `kernel_path`. It may have any of the names
// that Debian, Fedora, openSUSE, Arch and Alpine use.
Result<std::string> initrd_beside(const std::string& kernel_path);

// A configuration option (without "CONFIG_") that a machine needs, and the reason.
struct NeededOption {
  std::string_view name;
  std::string_view purpose;
};

// Returns a message for each option of `needed` that the kernel's configuration lacks; =m suffices
// only with an initramfs. Returns no messages if there is no readable config-VERSION or .config.
std::vector<std::string> missing_options(const std::string& kernel_path, bool has_initrd,
                                         std::span<const NeededOption> needed);

}  // namespace wick::boot
