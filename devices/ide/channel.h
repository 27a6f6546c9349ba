// One channel of an IDE controller: the two drives on a cable, their ports, their
// common interrupt, and the bus master that moves their data to and from RAM.
//
// The level of the interrupt line is INTRQ of the selected drive, masked by nIEN.
//
// Thread rule: any vCPU thread accesses the ports; I/O completes on the drives' loops. One mutex
// guards the channel and both drives. The line is set with the mutex held and may not call back. No
// thread waits for a loop with the mutex held.
//
// Specification: ATA/ATAPI-6, clause 7 and "Single device configurations"; Intel
// 82371AB (PIIX4) data sheet, 5.2 (bus master registers) and "Bus Master Function".
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/bus.h"
#include "base/guest_memory.h"
#include "base/interrupt.h"
#include "base/mutex.h"
#include "devices/ide/drive.h"

namespace wick::devices {

class IdeChannel {
 public:
  static constexpr uint64_t kCommandPorts = 8;
  static constexpr uint64_t kControlPorts = 1;
  static constexpr uint64_t kBusMasterPorts = 8;

  // The position of the bus master in its descriptor table.
  struct Engine {
    uint32_t next_descriptor = 0;
    uint32_t address = 0;
    uint32_t left_bytes = 0;  // left in the current region, from `address` on
    bool last = false;        // the current region is the last one (EOT)
    bool operator==(const Engine&) const = default;
  };

  // The guest-visible state, without that of the drives.
  struct State {
    uint8_t device = 0;  // bit 4 (DEV) selects the drive
    uint8_t control = 0;
    uint8_t bus_master_command = 0;
    uint8_t bus_master_status = 0;
    uint32_t table = 0;
    Engine engine;
    bool operator==(const State&) const = default;
  };

  // `drive1` may be nullptr. `memory`, `line` and the drives must outlive the channel.
  IdeChannel(const GuestMemory& memory, InterruptLine& line, IdeDrive& drive0, IdeDrive* drive1);
  // Waits for the drives' I/O. No vCPU may access the ports any more.
  ~IdeChannel();
  IdeChannel(const IdeChannel&) = delete;
  IdeChannel& operator=(const IdeChannel&) = delete;

  BusDevice& command_block() { return command_block_; }
  BusDevice& control_block() { return control_block_; }
  BusDevice& bus_master() { return bus_master_; }
  // Sets whether the function may access guest memory. While it may not, a transfer in
  // progress waits.
  void enable_dma(bool enabled);

  // Call open_tray() and insert() of the drive at `index`, which must exist and be a CD-ROM drive.
  bool open_tray(size_t index, bool force);
  void insert_disc(size_t index, uint64_t size_bytes);

  State state() const;
  IdeDrive::State drive_state(size_t index) const;  // the drive must exist

 private:
  struct CommandBlock final : BusDevice {
    explicit CommandBlock(IdeChannel& owner) : channel(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    IdeChannel& channel;
  };
  struct ControlBlock final : BusDevice {
    explicit ControlBlock(IdeChannel& owner) : channel(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    IdeChannel& channel;
  };
  struct BusMaster final : BusDevice {
    explicit BusMaster(IdeChannel& owner) : channel(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    IdeChannel& channel;
  };

  bool second_selected() const REQUIRES(mutex_) {
    return (state_.device & ata::kSecondDevice) != 0;
  }
  IdeDrive* selected() const REQUIRES(mutex_) { return drives_[second_selected() ? 1 : 0]; }
  uint8_t status() const REQUIRES(mutex_);
  uint8_t read_register(uint64_t port) REQUIRES(mutex_);
  void write_register(uint64_t port, uint8_t value) REQUIRES(mutex_);
  void write_command(uint8_t opcode) REQUIRES(mutex_);
  void write_control(uint8_t value) REQUIRES(mutex_);
  void write_bus_master(uint64_t port, uint8_t value) REQUIRES(mutex_);
  void run_bus_master() REQUIRES(mutex_);
  bool next_region() REQUIRES(mutex_);
  void stop_bus_master(bool error) REQUIRES(mutex_);
  void update_line() REQUIRES(mutex_);
  void finish_io(IdeDrive& drive, const Result<void>& result);

  const GuestMemory& memory_;
  InterruptLine& line_;
  const std::array<IdeDrive*, 2> drives_;  // accessed with mutex_ held
  CommandBlock command_block_{*this};
  ControlBlock control_block_{*this};
  BusMaster bus_master_{*this};

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  bool asserted_ GUARDED_BY(mutex_) = false;  // the last level set on line_
  bool dma_enabled_ GUARDED_BY(mutex_) = true;
};

}  // namespace wick::devices
