// The Hardware of a machine: its peripherals, and the devices of its current board.
//
// Thread rule: the main loop's thread.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "vmm/board.h"
#include "vmm/hardware.h"
#include "vmm/machine_event.h"
#include "vmm/peripherals.h"

namespace wick::vmm {

class MachineHardware final : public Hardware {
 public:
  // A function that calls its argument while no vCPU runs: at once if all vCPUs are stopped;
  // otherwise it first stops the vCPUs, and resumes them after the call. If the board is destroyed
  // before the call, the argument is never called.
  using WithStoppedVcpus = std::function<void(std::function<void()>)>;

  // `config` must outlive the object.
  MachineHardware(const MachineConfig& config, std::function<void(const MachineEvent&)> publish,
                  WithStoppedVcpus with_stopped_vcpus)
      : config_(config),
        publish_(std::move(publish)),
        with_stopped_vcpus_(std::move(with_stopped_vcpus)) {}

  void set_peripherals(Peripherals* peripherals) { peripherals_ = peripherals; }
  // Sets the current board; nullptr: there is none. The new board's balloon gets the target of the
  // old one's.
  void set_board(Board* board);
  // Publishes an event for each tray that the guest has moved since the last call.
  void publish_trays();
  // Must be called after a host I/O error of a disk. `stopped`: the error stops the machine.
  void disk_failed(const std::string& id, bool no_space, bool stopped);
  // Must be called when the guest has ejected the devices in these slots (a bit each). Removes the
  // devices.
  void ejected(uint32_t slots);
  // Removes the devices in these slots, because the old board did not complete their removal. Must
  // be called between two boards.
  void complete_removals(uint32_t slots);
  void set_paused(bool paused) {
    paused_ = paused;
    if (!paused) failed_.clear();
  }

  std::vector<DiskInfo> disks() const override;
  std::vector<CardInfo> cards() const override;
  std::vector<PciInfo> pci_functions() const override;
  std::vector<ConsoleInfo> consoles() const override;
  std::string address_map() const override;
  Result<void> resize_disk(const std::string& id, uint64_t size_bytes) override;
  Result<void> snapshot_disk(const std::string& id, const std::string& path) override;
  Result<void> eject(const std::string& id, bool force) override;
  Result<void> change_medium(const std::string& id, const std::string& path, bool force) override;
  Result<void> set_link(const std::string& id, bool up) override;
  Result<void> add_forward(const std::string& id, const std::string& forward) override;
  Result<void> remove_forward(const std::string& id, const std::string& forward) override;
  std::string connections(const std::string& id) const override;
  Result<void> set_balloon(uint64_t guest_bytes) override;
  std::optional<uint64_t> balloon_bytes() const override;
  Result<void> send_break(const std::string& console_id) override;
  Result<void> type(const std::string& console_id, const std::string& text) override;
  Result<void> send_keys(const std::vector<uint16_t>& codes,
                         std::chrono::milliseconds hold) override;
  Result<void> save_screen(const std::string& path, PictureFormat format) override;
  Result<void> add_disk(const DiskConfig& config, const std::string& id) override;
  Result<void> add_card(const NetConfig& config, const std::string& id) override;
  Result<void> remove_device(const std::string& id) override;

 private:
  Result<Disk*> find_disk(const std::string& id) const;
  Result<NetworkCard*> find_card(const std::string& id) const;
  Result<console::Port*> find_console(const std::string& id) const;
  // Checks that a device can be added, and returns the first free hot-plug slot in
  // [`first`, `end`).
  Result<uint8_t> slot_for(const std::string& id, uint8_t first, uint8_t end) const;
  struct CdromDrive {
    Disk* disk = nullptr;
    size_t position = 0;  // in Peripherals::ide_drives()
  };
  // Fails unless `id` is a CD-ROM drive.
  Result<CdromDrive> find_cdrom(const std::string& id) const;
  Result<void> open_tray(const CdromDrive& drive, bool force);
  void plug(uint8_t slot);
  void remove(uint8_t slot);

  const MachineConfig& config_;
  const std::function<void(const MachineEvent&)> publish_;
  const WithStoppedVcpus with_stopped_vcpus_;
  Peripherals* peripherals_ = nullptr;
  Board* board_ = nullptr;
  uint64_t balloon_target_bytes_ = 0;
  bool paused_ = false;
  std::map<std::string, bool> trays_;   // key: id of a CD-ROM drive; true: last published as open
  std::map<std::string, bool> failed_;  // key: id of a failed disk; true: the error was ENOSPC
};

}  // namespace wick::vmm
