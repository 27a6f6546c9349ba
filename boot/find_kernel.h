// Kernels as distributions install them: the newest in a folder, the initramfs
// beside a kernel, and the configuration that came with it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick::boot {

// The path of the newest vmlinuz-VERSION in `folder`, or of its plain vmlinuz.
// Rescue kernels and old copies do not count.
Result<std::string> newest_kernel(const std::string& folder);

// The initramfs that belongs to `kernel_path`, under any of the names that
// Debian, Fedora, openSUSE, Arch and Alpine use.
Result<std::string> initrd_beside(const std::string& kernel_path);

// A configuration option (without "CONFIG_") that a machine needs, and for what.
struct NeededOption {
  std::string_view name;
  std::string_view purpose;
};

// A line for each of `needed` that the kernel's configuration lacks: as =m it
// counts only with an initramfs. Nothing when no config-VERSION or .config is
// there to be read.
std::vector<std::string> missing_options(const std::string& kernel_path, bool has_initrd,
                                         std::span<const NeededOption> needed);

}  // namespace wick::boot
