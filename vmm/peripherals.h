// What is plugged into a machine and stays so when the guest resets it: the
// host's ends of consoles, disks and networks, and the virtio devices over them.
//
// Thread rule: made and destroyed on the main loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "console/open.h"
#include "console/port.h"
#include "virtio/console.h"
#include "virtio/rng.h"
#include "vmm/config.h"
#include "vmm/disk.h"
#include "vmm/network_card.h"

namespace wick {

class Peripherals {
 public:
  // A virtio device and where it goes.
  struct Slot {
    virtio::VirtioDevice* device = nullptr;
    std::string name;
    uint8_t pci_slot = 0;
  };

  // `keys` is what a terminal's escape keys do.
  static Result<Peripherals> create(const MachineConfig& config, EventLoop& main_loop,
                                    const console::TerminalKeys& keys);

  // ttyS0 first; behind the serial ports hvc0, if there is one.
  const std::vector<std::unique_ptr<console::Port>>& consoles() const { return consoles_; }
  size_t serial_count() const { return consoles_.size() - (hvc_ ? 1 : 0); }
  const std::vector<Slot>& slots() const { return slots_; }
  // In the order of the IDE controller's places, at most as many as it has.
  const std::vector<devices::IdeDrive*>& ide_drives() const { return ide_drives_; }
  // The cards that the board makes chips for.
  struct EmulatedCard {
    NetworkCard* card = nullptr;
    std::string name;
    uint8_t pci_slot = 0;
  };
  const std::vector<EmulatedCard>& emulated_cards() const { return emulated_cards_; }

  void update_disk_sizes();

  // When the vCPUs have stopped: makes everything written stable, and hands
  // over what the guest's consoles said. The first error of a disk.
  Result<void> finish();

 private:
  Result<void> add_disks(const MachineConfig& config);
  Result<void> add_cards(const MachineConfig& config);

  std::vector<std::unique_ptr<console::Port>> consoles_;
  std::unique_ptr<virtio::Console> hvc_;
  std::unique_ptr<virtio::Rng> rng_;
  std::vector<std::unique_ptr<Disk>> disks_;
  std::vector<std::unique_ptr<NetworkCard>> cards_;
  std::vector<Slot> slots_;
  std::vector<devices::IdeDrive*> ide_drives_;
  std::vector<EmulatedCard> emulated_cards_;
};

}  // namespace wick
