#include "cli/boot_choice.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "boot/find_kernel.h"
#include "boot/firmware.h"
#include "boot/input_file.h"
#include "cli/download.h"
#include "cli/location.h"
#include "vmm/disk.h"

namespace wick::cli {

namespace {

using Boot = vmm::MachineConfig::Boot;

bool is_cdrom(const vmm::DiskConfig& disk) { return disk.media == vmm::DiskConfig::Media::kCdrom; }

// Returns true if the first disk has a boot sector. A disk that cannot be read counts as one
// without a boot sector; the machine reports the error later.
bool first_disk_boots(const vmm::MachineConfig& config) {
  if (config.root_disk() == nullptr) return false;
  const auto sector = vmm::read_first_sector(*config.root_disk());
  return sector && boot::is_boot_sector(*sector);
}

// Returns true if there are options that only a kernel uses.
bool are_for_a_kernel(const RunOptions& options) {
  const vmm::MachineConfig& machine = options.machine;
  return options.initrd_auto || !machine.initrd_path.empty() || !machine.append.empty() ||
         machine.cmdline.has_value();
}

// Returns what firmware boots; nullopt: a kernel boots.
std::optional<Boot> firmware_boot(const vmm::MachineConfig& config, const RunOptions& given) {
  const BootOptions& options = given.boot;
  switch (options.what.value_or(BootOptions::What::kKernel)) {
    case BootOptions::What::kDisk:
      return Boot::kDisk;
    case BootOptions::What::kCdrom:
      return Boot::kCdrom;
    case BootOptions::What::kMenu:
      return Boot::kMenu;
    case BootOptions::What::kKernel:
      break;
  }
  if (options.what || !config.kernel_path.empty()) return std::nullopt;
  if (options.firmware.empty() && are_for_a_kernel(given)) return std::nullopt;
  if (std::ranges::any_of(config.disks, is_cdrom)) return Boot::kCdrom;
  if (!options.firmware.empty() || first_disk_boots(config)) return Boot::kDisk;
  return std::nullopt;
}

Result<void> choose_location(vmm::MachineConfig& config, const std::string& location) {
  const LocationFiles files = TRY(fetch_location(
      location, location_cache_folder(std::getenv("XDG_CACHE_HOME"), std::getenv("HOME"))));
  config.kernel_path = files.kernel_path;
  config.initrd_path = files.initrd_path;
  // The user's parameters come last, so that they override.
  if (!files.append.empty() && !config.cmdline)
    config.append = files.append + (config.append.empty() ? "" : " " + config.append);
  spdlog::info("{}: {}", without_password(location), files.distribution);
  if (!files.checked && is_url(location))
    spdlog::warn("{}: has no checksums, so nothing tells whether the files are the right ones",
                 without_password(location));
  return {};
}

// Returns the default file for UEFI's variables; empty: the variables are in memory only. A machine
// has a file only if the user gave it a name that can be a file's name.
std::string default_variables(const std::string& name) {
  const char* const state = std::getenv("XDG_STATE_HOME");
  const char* const home = std::getenv("HOME");
  const bool given = state != nullptr && *state == '/';
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos) return {};
  if (!given && (home == nullptr || *home != '/')) return {};
  const std::filesystem::path folder =
      (given ? std::filesystem::path(state) : std::filesystem::path(home) / ".local/state") /
      "wick";
  std::error_code ignored;  // opening the file will fail with a better error
  std::filesystem::create_directories(folder, ignored);
  return folder / (name + ".vars");
}

Result<void> choose_firmware(vmm::MachineConfig& config, const RunOptions& options) {
  const BootOptions& given = options.boot;
  if (given.firmware != "uefi") {
    config.firmware_path = given.firmware.empty() || given.firmware == "bios"
                               ? TRY(boot::find_bios())
                               : given.firmware;
    return {};
  }
  const boot::UefiFiles files = TRY(boot::find_uefi());
  config.firmware_path = files.code;
  config.uefi_template_path = files.variables;
  config.uefi_variables_path =
      given.variables.empty() ? default_variables(options.machine.name) : given.variables;
  spdlog::info("the variables of UEFI are in {}", config.uefi_variables_path.empty()
                                                      ? "memory, and lost at the end"
                                                      : config.uefi_variables_path);
  return {};
}

}  // namespace

Result<void> check_boot(const RunOptions& options) {
  using What = BootOptions::What;
  const vmm::MachineConfig& machine = options.machine;
  const auto what = options.boot.what;
  const bool by_firmware = !options.boot.firmware.empty() || (what && *what != What::kKernel);
  if (by_firmware && (!machine.kernel_path.empty() || what == What::kKernel))
    return with_hint(fail("--kernel excludes --firmware, and --boot disk, cdrom and menu; so does "
                          "--boot kernel"),
                     "leave one of them out");
  if (!options.boot.variables.empty() && options.boot.firmware != "uefi")
    return with_hint(fail("--firmware: vars= is for the variables of UEFI"),
                     "write --firmware uefi,vars=FILE");
  if (!options.location.empty() && (by_firmware || !machine.kernel_path.empty() ||
                                    !machine.initrd_path.empty() || options.initrd_auto))
    return with_hint(fail("--location gives the kernel and its initramfs"),
                     "leave --kernel, --initrd, --boot and --firmware out");
  if (what == What::kCdrom && std::ranges::none_of(machine.disks, is_cdrom))
    return with_hint(fail("--boot cdrom: there is no CD-ROM"), "give one with --cdrom FILE");
  if (what == What::kDisk && machine.root_disk() == nullptr)
    return with_hint(fail("--boot disk: there is no disk"), "give one with --disk FILE");
  return {};
}

Result<void> choose_boot(vmm::MachineConfig& config, const RunOptions& options,
                         const std::string& boot_folder) {
  if (!options.location.empty()) TRY(choose_location(config, options.location));
  const auto boot = firmware_boot(config, options);
  if (boot) {
    config.boot = *boot;
    TRY(choose_firmware(config, options));
    // A machine with firmware reboots by default, like a PC.
    config.reset_on_reboot = options.reset_on_reboot.value_or(true);
    spdlog::info("boots {} by {}",
                 *boot == Boot::kCdrom  ? "the CD-ROM, after a reset the disk,"
                 : *boot == Boot::kMenu ? "what its user chooses"
                                        : "the disk",
                 config.firmware_path);
    return vmm::check(config);
  }
  config.reset_on_reboot = options.reset_on_reboot.value_or(false);
  TRY(choose_kernel(config, options.initrd_auto, boot_folder));
  spdlog::info("boots the kernel {}", config.kernel_path);
  return {};
}

Result<void> choose_kernel(vmm::MachineConfig& config, bool initrd_auto,
                           const std::string& boot_folder) {
  const bool default_kernel = config.kernel_path.empty();
  if (default_kernel) config.kernel_path = TRY(boot::newest_kernel(boot_folder));
  if (initrd_auto) {
    TRY(boot::InputFile::open(config.kernel_path));  // report errors of the kernel first
    config.initrd_path = TRY(boot::initrd_beside(config.kernel_path));
  } else if (default_kernel && config.initrd_path.empty()) {
    // A kernel without modules may have no initramfs.
    config.initrd_path = boot::initrd_beside(config.kernel_path).value_or("");
  }

  std::vector<boot::NeededOption> needed;
  if (config.main_console().starts_with("ttyS"))
    needed.push_back({"SERIAL_8250_CONSOLE", "the console is a serial port"});
  else
    needed.push_back({"VIRTIO_CONSOLE", "the console is hvc0"});
  const auto any_disk_on = [&](vmm::DiskConfig::Device device) {
    return std::ranges::find(config.disks, device, &vmm::DiskConfig::device) != config.disks.end();
  };
  const auto any_card = [&](vmm::NetConfig::Device device) {
    return std::ranges::find(config.nets, device, &vmm::NetConfig::device) != config.nets.end();
  };
  if (any_disk_on(vmm::DiskConfig::Device::kIde)) {
    needed.push_back({"ATA_PIIX", "there are drives on IDE"});
    needed.push_back({"PCI", "the IDE controller is on PCI"});
  }
  if (any_disk_on(vmm::DiskConfig::Device::kVirtio)) {
    needed.push_back({"VIRTIO_BLK", "the disks are virtio devices"});
    needed.push_back(config.on_pci()
                         ? boot::NeededOption{"VIRTIO_PCI", "virtio devices are on PCI"}
                         : boot::NeededOption{"VIRTIO_MMIO", "virtio devices are on virtio-mmio"});
    needed.push_back(config.acpi
                         ? boot::NeededOption{"ACPI", "virtio devices are found through ACPI"}
                         : boot::NeededOption{"VIRTIO_MMIO_CMDLINE_DEVICES",
                                              "virtio devices need it with --acpi off"});
  }
  if (!config.ports.empty())
    needed.push_back({"VIRTIO_CONSOLE", "the command's streams go through its ports"});
  if (any_card(vmm::NetConfig::Device::kVirtio))
    needed.push_back({"VIRTIO_NET", "the network card is a virtio device"});
  if (any_card(vmm::NetConfig::Device::kE1000))
    needed.push_back({"E1000", "the network card is an e1000"});
  for (const vmm::ShareConfig& share : config.shares)
    needed.push_back({share.device == vmm::ShareConfig::Device::k9p ? "NET_9P_VIRTIO" : "VIRTIO_FS",
                      "the share is a virtio device"});
  for (const std::string& line :
       boot::missing_options(config.kernel_path, !config.initrd_path.empty(), needed))
    spdlog::warn("{}", line);
  return {};
}

}  // namespace wick::cli
