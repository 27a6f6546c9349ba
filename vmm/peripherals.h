// The part of a machine that survives a reset: the host back ends of consoles, disks and
// networks, and the virtio devices and IDE drives on top of them.
//
// Thread rule: created and destroyed on the main loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "console/open.h"
#include "console/port.h"
#include "virtio/console.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"
#include "vmm/config.h"
#include "vmm/disk.h"
#include "vmm/network_card.h"
#include "vmm/screen.h"
#include "vmm/shared_folder.h"

namespace wick::vmm {

class Peripherals {
 public:
  // A virtio device and its PCI slot.
  struct Slot {
    virtio::VirtioDevice* device = nullptr;
    std::string name;
    uint8_t pci_slot = 0;
  };

  using OnDiskError =
      std::function<void(const std::string& id, const block::Supervised::Failure& failure)>;
  // `keys` has the actions of a terminal's escape keys. `on_disk_error` is called on the disk's
  // thread for each request that the host could not execute. `on_key` is called on any thread for
  // each key pressed at the screen.
  static Result<Peripherals> create(
      const MachineConfig& config, EventLoop& main_loop, const console::TerminalKeys& keys,
      OnDiskError on_disk_error = {}, std::function<void()> on_key = [] {});

  // The serial ports, from ttyS0, then the consoles of the virtio console, from hvc0.
  const std::vector<std::unique_ptr<console::Port>>& consoles() const { return consoles_; }
  size_t serial_count() const { return serial_count_; }
  // A port of the virtio console device that is not a console.
  struct NamedPort {
    std::string name;
    std::unique_ptr<console::Port> port;
  };
  const std::vector<NamedPort>& named_ports() const { return named_ports_; }
  const std::vector<Slot>& slots() const { return slots_; }
  // In the order of the IDE controller's positions; at most devices::Ide::kDrives.
  const std::vector<devices::IdeDrive*>& ide_drives() const { return ide_drives_; }
  // A card for which the board creates the chip.
  struct EmulatedCard {
    NetworkCard* card = nullptr;
    std::string name;
    uint8_t pci_slot = 0;
  };
  const std::vector<EmulatedCard>& emulated_cards() const { return emulated_cards_; }

  const std::vector<std::unique_ptr<Disk>>& disks() const { return disks_; }
  const std::vector<std::unique_ptr<NetworkCard>>& cards() const { return cards_; }

  // Hot-plug, only with PCI. The id and the slot must be free; check(config) must have accepted the
  // device. The caller passes the result to Board::make().
  Result<Slot> add_disk(const DiskConfig& config, const std::string& id, uint8_t pci_slot);
  // Adds the new card to slots() if it is a virtio device, else to emulated_cards().
  Result<NetworkCard*> add_card(const NetConfig& config, const std::string& id,
                                const std::string& machine, uint8_t pci_slot);
  // Destroys a disk or a network card, which the board must no longer use.
  void remove(const std::string& id);
  // Returns the id of the virtio device or network card in the slot; nullopt: it has neither.
  std::optional<std::string> id_in(uint8_t pci_slot) const;
  // Returns the PCI slot of a virtio device or network card; nullopt: there is none with this id.
  std::optional<uint8_t> slot_of(const std::string& id) const;

  Screen* screen() const { return screen_.get(); }  // nullptr: the machine has no screen

  void update_disk_sizes();

  // May be called only while the vCPUs are stopped. After pause() no request is in flight, and
  // nothing is written to the guest's memory until resume(). Repeated calls are allowed.
  void pause();
  void resume();

  // Must be called after the vCPUs have stopped. Flushes the disks and the output of the
  // consoles, and returns the first error of a disk.
  Result<void> finish();

 private:
  Result<void> add_disks(const MachineConfig& config);
  Result<Disk*> create_disk(const DiskConfig& config, const std::string& id);
  Result<void> add_cards(const MachineConfig& config);
  Result<void> add_shares(const MachineConfig& config);
  Result<void> add_consoles(const MachineConfig& config, EventLoop& main_loop,
                            const console::TerminalKeys& keys);
  void hold_input(bool held);

  OnDiskError on_disk_error_;
  std::vector<std::unique_ptr<console::Port>> consoles_;
  size_t serial_count_ = 0;
  std::vector<NamedPort> named_ports_;
  std::unique_ptr<virtio::Console> hvc_;
  std::unique_ptr<virtio::Rng> rng_;
  std::unique_ptr<virtio::Vsock> vsock_;
  std::unique_ptr<Screen> screen_;
  std::vector<std::unique_ptr<Disk>> disks_;
  std::vector<std::unique_ptr<NetworkCard>> cards_;
  std::vector<std::unique_ptr<SharedFolder>> shares_;
  std::vector<Slot> slots_;
  std::vector<devices::IdeDrive*> ide_drives_;
  std::vector<EmulatedCard> emulated_cards_;
  std::vector<console::Backend*> foreign_ports_;  // the back ends of MachineConfig::ports
};

}  // namespace wick::vmm
