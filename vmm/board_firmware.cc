// The parts of a board that firmware needs in place of a kernel.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "vmm/board.h"
#include "vmm/layout.h"

namespace wick::vmm {

namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = as_bytes(text.data(), text.size());
  return {bytes.begin(), bytes.end()};
}

}  // namespace

// The vCPUs keep the state that KVM gives them, that of a reset: the first one starts 16 bytes
// below 4 GiB, the others wait for INIT and SIPI.
Result<void> Board::load_firmware(const FirmwareStart& firmware) {
  const std::span<const std::byte> image = firmware.image.image;
  const GuestAddress start{layout::kFirmwareEnd - image.size()};
  rom_.emplace(TRY(GuestMemory::create(std::array{GuestMemory::Range{start, image.size()}})));
  TRY(rom_->write_bytes(start, image));
  TRY(vm_.map({.index = Vm::kFirmwareSlot,
               .memory = rom_->regions().front(),
               .access = Vm::Access::kReadOnly}));
  const auto copy = image.last(std::min<size_t>(image.size(), layout::kMaxFirmwareCopyBytes));
  TRY(memory_.write_bytes({layout::kFirmwareCopyEnd - copy.size()}, copy));
  if (spdlog::should_log(spdlog::level::debug)) {
    firmware_log_ = std::make_unique<devices::FirmwareLog>(
        [](const std::string& line) { spdlog::debug("firmware: {}", line); });
    TRY(ports_.attach({layout::kFirmwareLogPort, devices::FirmwareLog::kPorts}, *firmware_log_,
                      "firmware log"));
  }
  spdlog::info("{}: firmware of {} KiB", firmware.image.path, image.size() >> 10);
  return add_firmware_files(firmware.again);
}

Result<void> Board::add_firmware_files(bool again) {
  std::vector<std::byte> e820;
  const auto entry = [&](uint64_t start, uint64_t size, uint32_t type) {
    std::vector<std::byte> e(20);
    store_le(std::span(e).subspan(0, 8), start);
    store_le(std::span(e).subspan(8, 8), size);
    store_le(std::span(e).subspan(16, 4), type);
    e820.insert(e820.end(), e.begin(), e.end());
  };
  for (const auto& region : memory_.regions()) entry(region.start.value, region.size_bytes, 1);
  TRY(fw_cfg_->add("etc/e820", e820));
  TRY(fw_cfg_->add("etc/sercon-port", {std::byte{0xf8}, std::byte{0x03}}));
  std::string order;
  for (const std::string& path : boot_order(again)) order += order.empty() ? path : '\n' + path;
  TRY(fw_cfg_->add("bootorder", bytes_of(order + '\0')));
  return {};
}

// An installer that has been started from a CD-ROM resets the machine to start what it has
// installed.
std::vector<std::string> Board::boot_order(bool again) const {
  using Media = DiskConfig::Media;
  constexpr size_t kDrivesPerChannel = devices::Ide::kDrives / devices::Ide::kChannels;
  std::vector<std::string> disks, cdroms;
  size_t on_virtio = 0;
  size_t on_ide = 0;
  for (const DiskConfig& disk : config_.disks) {
    std::vector<std::string>& to = disk.media == Media::kCdrom ? cdroms : disks;
    if (disk.device == DiskConfig::Device::kVirtio) {
      to.push_back(
          fmt::format("/pci@i0cf8/scsi@{:x}/disk@0,0", layout::kFirstDiskSlot + on_virtio++));
      continue;
    }
    to.push_back(fmt::format("/pci@i0cf8/ide@{:x}/drive@{:x}/disk@{:x}", layout::kIdeSlot,
                             on_ide / kDrivesPerChannel, on_ide % kDrivesPerChannel));
    ++on_ide;
  }
  const bool cdrom_first = config_.boot == MachineConfig::Boot::kCdrom && !again;
  std::vector<std::string>& first = cdrom_first ? cdroms : disks;
  const std::vector<std::string>& others = cdrom_first ? disks : cdroms;
  first.insert(first.end(), others.begin(), others.end());
  return first;
}

}  // namespace wick::vmm
