// The kernel of wick exec and its modules: those of the host, of a build tree, or others.
//
// Thread rule: none.
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
  // The folder for guest::Modules::open(); empty: everything that is needed is built in.
  std::string modules;
};

// `kernel` is a file, a build tree, or empty for the newest kernel in `boot_folder`. `modules` is
// the value of --modules; auto looks into the build tree, then into `modules_folder`.
Result<ExecKernel> find_exec_kernel(const std::string& kernel, const std::string& modules,
                                    const std::string& boot_folder = "/boot",
                                    const std::string& modules_folder = "/lib/modules");

// The modules for the devices of a machine whose init uses a port.
std::vector<std::string_view> modules_for(const vmm::MachineConfig& config);

}  // namespace wick::cli
