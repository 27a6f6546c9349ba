// Finds the kernel that wick exec boots, and the kernel's modules: the host's, those of a kernel
// build tree, or those that the user names.
//
// Thread rule: any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vmm/config.h"

namespace wick::cli {

struct ExecKernel {
  std::string path;
  // The folder for guest::Modules::open(); empty: the kernel has everything that is needed built
  // in.
  std::string modules;
};

// Finds the kernel and its modules. `kernel` is a file, a build tree, or empty for the newest
// kernel in `boot_folder`. `modules` is the value of --modules; "auto" means the modules of the
// build tree that contains the kernel, or, if the kernel is in no build tree, those in
// `modules_folder`.
Result<ExecKernel> find_exec_kernel(const std::string& kernel, const std::string& modules,
                                    const std::string& boot_folder = "/boot",
                                    const std::string& modules_folder = "/lib/modules");

// Returns the modules that the guest needs for the machine's devices. They include the driver of
// virtio consoles, because init uses a port.
std::vector<std::string_view> modules_for(const vmm::MachineConfig& config);

}  // namespace wick::cli
