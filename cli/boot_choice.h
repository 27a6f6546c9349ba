// Chooses what a machine boots: a kernel, or, with firmware, the boot loader of a disk.
//
// Thread rule: before the machine is built, in the thread that builds it.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/options.h"
#include "vmm/config.h"

namespace wick::cli {

// Sets the kernel or the firmware of `config`, and logs the choice. If no option says what to boot,
// firmware boots a CD-ROM, or else the first disk if it has a boot sector; if there is neither, the
// newest kernel boots.
Result<void> choose_boot(vmm::MachineConfig& config, const RunOptions& options,
                         const std::string& boot_folder = "/boot");

// Completes the kernel of `config`. Without a kernel path, chooses the newest kernel in
// `boot_folder`, and its initramfs if there is one. With `initrd_auto`, chooses the initramfs
// beside the kernel. Warns if the kernel lacks drivers for this machine.
Result<void> choose_kernel(vmm::MachineConfig& config, bool initrd_auto,
                           const std::string& boot_folder = "/boot");

// Fails if the options that say what to boot contradict each other, or name a drive that the
// machine does not have.
Result<void> check_boot(const RunOptions& options);

}  // namespace wick::cli
