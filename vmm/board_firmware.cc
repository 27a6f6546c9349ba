// The parts of a board for a guest that starts by firmware, and for one that wakes up from S3.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "boot/bios_files.h"
#include "boot/cmos.h"
#include "boot/smbios.h"
#include "boot/table_blob.h"
#include "vmm/board.h"
#include "vmm/layout.h"

namespace wick::vmm {

namespace {

// The pages that KVM itself uses. The memory map reserves them, so that no guest uses them.
constexpr boot::MemoryMapEntry kKvmPages{layout::kKvmIdentityMap, layout::kKvmPagesBytes,
                                         boot::MemoryMapEntry::Type::kReserved};

// How long SeaBIOS waits for the key that shows its menu of boot devices.
constexpr uint16_t kMenuWaitMs = 60'000;

}  // namespace

// The vCPUs keep the state in which KVM creates them, that of a CPU after a reset: the first vCPU
// starts 16 bytes below 4 GiB, and the others wait for INIT and SIPI.
Result<void> Board::load_firmware(const FirmwareStart& start) {
  const std::span<const std::byte> image = start.image.image;
  const GuestAddress rom_start{layout::kFirmwareEnd - image.size()};
  auto rom = std::make_shared<const GuestMemory>(
      TRY(GuestMemory::create(std::array{GuestMemory::Range{rom_start, image.size()}})));
  TRY(rom->write_bytes(rom_start, image));
  TRY(map_firmware(std::move(rom)));
  if (start.variables != nullptr) TRY(map_variables(*start.variables));
  const auto copy = image.last(std::min<size_t>(image.size(), layout::kMaxFirmwareCopyBytes));
  TRY(memory_.write_bytes({layout::kFirmwareCopyEnd - copy.size()}, copy));
  boot::CmosPlatform cmos{.low_memory_bytes = std::min(config_.memory_bytes, layout::kLowRamEnd),
                          .high_memory_bytes = config_.memory_bytes -
                                               std::min(config_.memory_bytes, layout::kLowRamEnd),
                          .cpus = config_.cpus,
                          .has_mouse = screen_ != nullptr};
  for (size_t i = 0; i < ide_disks_.size(); ++i)
    if (ide_disks_[i] != nullptr) {
      const devices::ata::Geometry& geometry = ide_disks_[i]->state().translation;
      cmos.ide_disks[i] = {geometry.cylinders, geometry.heads, geometry.sectors};
    }
  rtc_->preset(boot::make_cmos(cmos));
  spdlog::info("{}: firmware of {} KiB", start.image.path, image.size() >> 10);
  return add_firmware_files(start.again);
}

// With UEFI, returns other addresses, because OVMF moves the BARs into a window of its own choice.
Board::PciPlaces Board::pci_places() const {
  if (!uefi_)
    return {.window = {layout::kPciWindow, layout::kPciWindowBytes}, .ecam = layout::kPciEcam};
  const uint64_t start =
      layout::uefi_pci_window(std::min(config_.memory_bytes, layout::kLowRamEnd));
  return {.window = {start, layout::kUefiPciWindowEnd - start}, .ecam = layout::kUefiPciEcam};
}

Result<void> Board::map_firmware(std::shared_ptr<const GuestMemory> rom) {
  rom_ = std::move(rom);
  TRY(vm_.map({.index = Vm::kFirmwareSlot,
               .memory = rom_->regions().front(),
               .access = Vm::Access::kReadOnly}));
  if (!spdlog::should_log(spdlog::level::debug)) return {};
  firmware_log_ = std::make_unique<devices::FirmwareLog>(
      [](const std::string& line) { spdlog::debug("firmware: {}", line); });
  return ports_.attach({layout::kFirmwareLogPort, devices::FirmwareLog::kPorts}, *firmware_log_,
                       "firmware log");
}

// Maps the flash memory read-only while the chip is in its read mode, in which reads return the
// content; then the guest reads the variables without exits.
Result<void> Board::map_variables(boot::UefiVariables& variables) {
  const Vm::Slot slot{
      .index = Vm::kFlashSlot, .memory = variables.region(), .access = Vm::Access::kReadOnly};
  const auto show = [this, slot](bool readable) {
    if (!readable) return vm_.unmap(slot.index);
    // If mapping fails, the guest's reads are exits, which the chip serves.
    if (const auto mapped = vm_.map(slot); !mapped) spdlog::error("{}", mapped.error().message());
  };
  flash_ = std::make_unique<devices::Flash>(
      variables.bytes(),
      devices::Flash::Wires{.show = show, .changed = [&variables](size_t offset, size_t size) {
                              variables.store(offset, size);
                            }});
  TRY(mmio_.attach({slot.memory.start.value, slot.memory.size_bytes}, *flash_, "flash"));
  return vm_.map(slot);
}

Result<void> Board::add_firmware_files(bool again) {
  const auto add = [this](std::string_view name, std::vector<std::byte> content) {
    return fw_cfg_->add(std::string(name), std::move(content));
  };
  boot::AcpiFiles acpi = TRY(boot::make_acpi_files(acpi_platform()));
  TRY(add(boot::kAcpiTablesFile, std::move(acpi.tables)));
  TRY(add(boot::kAcpiRsdpFile, std::move(acpi.rsdp)));
  TRY(add(boot::kTableLoaderFile, std::move(acpi.loader)));
  boot::SmbiosFiles smbios = boot::make_smbios_files(
      memory_, {.name = config_.name, .uuid = config_.uuid, .cpus = config_.cpus});
  TRY(add(boot::kSmbiosAnchorFile, std::move(smbios.anchor)));
  TRY(add(boot::kSmbiosTablesFile, std::move(smbios.tables)));
  boot::BiosFile e820 = boot::make_e820_file(memory_, std::array{kKvmPages});
  TRY(add(e820.name, std::move(e820.content)));

  boot::BiosSettings settings{.boot_order = boot_order(again),
                              .sleep_type_s3 = acpi_platform().sleep_type_s3,
                              .sleep_type_s4 = devices::AcpiPm::kSleepTypeS4,
                              .sleep_type_s5 = devices::AcpiPm::kSleepTypeS5};
  if (config_.boot == MachineConfig::Boot::kMenu) settings.boot_menu_wait_ms = kMenuWaitMs;
  if (screen_ == nullptr && !serials_.empty())
    settings.serial_console_port = layout::kSerialPorts[0];
  for (boot::BiosFile& file : boot::make_bios_files(settings))
    TRY(add(file.name, std::move(file.content)));
  if (screen_ == nullptr || uefi_) return {};
  const std::string path = TRY(boot::find_vga_bios());
  // SeaBIOS takes a file of this name for the expansion ROM of the VGA card (src/optionroms.c,
  // lookup_hardcode()), and tells the ROM where the card is.
  return add("pci1234,1111.rom", TRY(boot::read_option_rom(path)));
}

// With --boot cdrom, CD-ROM drives come first only at the first start: an installer resets the
// machine to boot the system that it has installed on a disk.
std::vector<std::string> Board::boot_order(bool again) const {
  using Media = DiskConfig::Media;
  constexpr unsigned kDrivesPerChannel = devices::Ide::kDrives / devices::Ide::kChannels;
  std::vector<std::string> disks, cdroms;
  uint8_t slot = layout::kFirstDiskSlot;
  unsigned drive = 0;
  for (const DiskConfig& disk : config_.disks) {
    std::vector<std::string>& to = disk.media == Media::kCdrom ? cdroms : disks;
    if (disk.device == DiskConfig::Device::kVirtio) {
      to.push_back(boot::virtio_disk_path(slot++));
      continue;
    }
    to.push_back(boot::ide_drive_path(layout::kIdeSlot, 0, drive / kDrivesPerChannel,
                                      drive % kDrivesPerChannel));
    ++drive;
  }
  const bool cdrom_first = config_.boot == MachineConfig::Boot::kCdrom && !again;
  std::vector<std::string>& first = cdrom_first ? cdroms : disks;
  const std::vector<std::string>& others = cdrom_first ? disks : cdroms;
  first.insert(first.end(), others.begin(), others.end());
  return first;
}

SleepingBoard Board::sleeping() const {
  return {.memory = memory_owner_,
          .rom = rom_,
          .uefi = uefi_,
          .rtc = rtc_->state(),
          .hotplug = hotplug_ ? hotplug_->state() : devices::AcpiHotplug::State(),
          .vmcoreinfo = vmcoreinfo(),
          .cmdline = cmdline_};
}

std::optional<GuestAddress> Board::waking_vector() const {
  constexpr uint32_t kRealModeEnd = 0x10'0000;
  const auto vectors = boot::read_waking_vectors(memory_);
  if (!vectors) return std::nullopt;
  const uint32_t vector = vectors->firmware_waking_vector;
  if (vector == 0 || vector >= kRealModeEnd) return std::nullopt;
  return GuestAddress{vector};
}

// Firmware finds the guest's waking vector itself. Without firmware, wick reads the vector from the
// ACPI table (FACS) that it has written for the guest. The guest's memory is unchanged.
Result<void> Board::wake_up(const WakeStart& wake) {
  cmdline_ = wake.asleep.cmdline;
  if (hotplug_) hotplug_->continue_from(wake.asleep.hotplug);
  if (wake.asleep.rom != nullptr) {
    rtc_->preset(std::array{std::pair{boot::kCmosShutdownStatus, boot::kCmosWakeFromS3}});
    TRY(map_firmware(wake.asleep.rom));
    return add_firmware_files(true);
  }
  const auto vector = waking_vector();
  if (!vector) return fail("the guest sleeps and has set no waking vector");
  return vcpus_.front()->set_state(boot::real_mode_entry(*vector));
}

}  // namespace wick::vmm
