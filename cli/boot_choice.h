// What a machine boots: a kernel, or the boot loader of a disk by firmware.
//
// Thread rule: before the machine is built, in the thread that builds it.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/options.h"
#include "vmm/config.h"

namespace wick::cli {

// Sets the kernel or the firmware of `config`. Without an option that says which: firmware for a
// CD-ROM or for a first disk with a boot sector, else the newest kernel. Logs what it has chosen.
Result<void> choose_boot(vmm::MachineConfig& config, const RunOptions& options,
                         const std::string& boot_folder = "/boot");

// Without a kernel path, chooses the newest kernel in `boot_folder` and its initramfs, if there
// is one; with `initrd_auto`, the initramfs beside the kernel. Warns about drivers for this
// machine that the kernel lacks.
Result<void> choose_kernel(vmm::MachineConfig& config, bool initrd_auto,
                           const std::string& boot_folder = "/boot");

// The rules of the options that say what to boot.
Result<void> check_boot(const RunOptions& options);

}  // namespace wick::cli
