// The PCI IDE controller of a PC: the IDE function of Intel's PIIX4, which every
// operating system has a driver for (Linux: ata_piix). It has two channels at the
// legacy ports and interrupts, and a bus master for each.
//
// A channel without a drive is disabled in IDETIM.
//
// Thread rule: made before the first vCPU runs, destroyed after the last one has
// stopped. Otherwise the thread rules of IdeChannel and PciFunction apply.
//
// Specification: Intel 82371AB (PIIX4) data sheet, 5.1 (configuration space);
// PCI IDE Controller Specification 1.0, 2 (compatibility mode).
#pragma once

#include <array>
#include <optional>

#include "devices/ide/channel.h"
#include "devices/ide/drive.h"
#include "devices/pci/function.h"

namespace wick::devices {

class Ide {
 public:
  static constexpr size_t kChannels = 2;
  static constexpr size_t kDrives = 4;

  // Drives 0 and 1 are on the first channel. A missing drive is nullptr; a channel with a second
  // drive must have a first one. `memory`, the lines and the drives must outlive the controller.
  Ide(const GuestMemory& memory, const std::array<InterruptLine*, kChannels>& lines,
      const std::array<IdeDrive*, kDrives>& drives);

  PciFunction& function() { return function_; }
  // The next functions are for the CD-ROM drive at `position`, which must exist. Any thread except
  // the drive's loop may call them.
  bool open_tray(size_t position, bool force) {
    return channels_.at(position / 2)->open_tray(position % 2, force);
  }
  void insert_disc(size_t position, uint64_t size_bytes) {
    channels_.at(position / 2)->insert_disc(position % 2, size_bytes);
  }
  atapi::Cdrom cdrom(size_t position) const {
    return channels_.at(position / 2)->drive_state(position % 2).cdrom;
  }

  IdeChannel* channel(size_t index) { return channels_.at(index) ? &*channels_[index] : nullptr; }

 private:
  // BAR 4: the bus master ports of the first channel, then those of the second.
  struct BusMasters final : BusDevice {
    explicit BusMasters(Ide& owner) : ide(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    BusDevice* at(uint64_t offset) const;
    Ide& ide;
  };

  std::array<std::optional<IdeChannel>, kChannels> channels_;
  BusMasters bus_masters_{*this};
  PciFunction function_;
};

}  // namespace wick::devices
