// One channel of an IDE controller: the two drives on a cable, the ports by which
// a guest reaches them, their common interrupt, and the bus master that moves
// their data to and from RAM.
//
// The interrupt line is a function of what the selected drive says, never more.
//
// Thread rule: ports from any vCPU thread; the ends of I/O come on the drives'
// loops. One mutex guards the channel and both drives; under it the line is set,
// which may not call back. It is never held while somebody waits for a loop.
//
// Specification: ATA/ATAPI-6, clause 7 and "Single device configurations"; Intel
// 82371AB (PIIX4) data sheet, 5.2 (bus master registers) and "Bus Master Function".
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>

#include "base/bus.h"
#include "base/guest_memory.h"
#include "base/interrupt.h"
#include "devices/ide/drive.h"

namespace wick::devices {

class IdeChannel {
 public:
  static constexpr uint64_t kCommandPorts = 8;
  static constexpr uint64_t kControlPorts = 1;
  static constexpr uint64_t kBusMasterPorts = 8;

  // Where the bus master is in its table.
  struct Engine {
    uint32_t next_descriptor = 0;
    uint32_t address = 0;
    uint32_t left_bytes = 0;  // of the region there
    bool last = false;        // there is no other
    bool operator==(const Engine&) const = default;
  };

  // What the guest can see, but the drives'.
  struct State {
    uint8_t device = 0;  // which drive is selected, in bit 4
    uint8_t control = 0;
    uint8_t bus_master_command = 0;
    uint8_t bus_master_status = 0;
    uint32_t table = 0;
    Engine engine;
    bool operator==(const State&) const = default;
  };

  // Drive 1 may be missing (nullptr), drive 0 may not. All must outlive the channel.
  IdeChannel(const GuestMemory& memory, InterruptLine& line, IdeDrive& drive0, IdeDrive* drive1);
  // Waits for the drives' I/O; no vCPU may be at the ports any more.
  ~IdeChannel();
  IdeChannel(const IdeChannel&) = delete;
  IdeChannel& operator=(const IdeChannel&) = delete;

  BusDevice& command_block() { return command_block_; }
  BusDevice& control_block() { return control_block_; }
  BusDevice& bus_master() { return bus_master_; }
  // Whether the function may access guest memory: what is under way waits until it may.
  void enable_dma(bool enabled);

  State state() const;
  IdeDrive::State drive_state(size_t index) const;  // of one that is there

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

  bool second_selected() const { return (state_.device & ata::kSecondDevice) != 0; }
  IdeDrive* selected() const { return drives_[second_selected() ? 1 : 0]; }
  uint8_t status() const;
  uint8_t read_register(uint64_t port);
  void write_register(uint64_t port, uint8_t value);
  void write_command(uint8_t opcode);
  void write_control(uint8_t value);
  void write_bus_master(uint64_t port, uint8_t value);
  void run_bus_master();
  bool next_region();
  void stop_bus_master(bool error);
  void settle();
  void finish_io(IdeDrive& drive, const Result<void>& result);

  const GuestMemory& memory_;
  InterruptLine& line_;
  const std::array<IdeDrive*, 2> drives_;
  CommandBlock command_block_{*this};
  ControlBlock control_block_{*this};
  BusMaster bus_master_{*this};

  mutable std::mutex mutex_;
  // Guarded by mutex_, as are the drives.
  State state_;
  bool asserted_ = false;  // what line_ was told last
  bool dma_enabled_ = true;
};

}  // namespace wick::devices
