// The guest's side of an IDE channel: accesses the ports and issues commands as a driver
// does.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "devices/ide/channel.h"
#include "tests/fakes/registers.h"
#include "tests/fakes/wait_for.h"

namespace wick::fakes {

class IdeHost {
 public:
  static constexpr uint8_t kLba = 0xe0;
  static constexpr uint8_t kSecond = 0x10;
  static constexpr uint64_t kMasterCommand = 0;
  static constexpr uint64_t kMasterStatus = 2;
  static constexpr uint64_t kMasterTable = 4;
  static constexpr uint8_t kStart = 1;
  static constexpr uint8_t kToMemory = 8;
  static constexpr uint16_t kLast = 0x8000;

  explicit IdeHost(devices::IdeChannel& channel) : channel_(&channel) {}

  uint8_t get(uint64_t port) const {
    return static_cast<uint8_t>(read_register(channel_->command_block(), port, 1));
  }
  void set(uint64_t port, uint8_t value) const {
    write_register(channel_->command_block(), port, value, 1);
  }
  // Reading status clears the interrupt; reading alternate status does not.
  uint8_t status() const { return get(devices::ata::kStatusOrCommand); }
  uint8_t alternate_status() const {
    return static_cast<uint8_t>(read_register(channel_->control_block(), 0, 1));
  }
  uint8_t error() const { return get(devices::ata::kErrorOrFeatures); }
  void control(uint8_t value) const { write_register(channel_->control_block(), 0, value, 1); }
  bool busy() const { return (alternate_status() & devices::ata::kBusy) != 0; }
  bool wait_until_ready() const {
    return wait_for([&] { return !busy(); });
  }

  void select(uint8_t device) const { set(devices::ata::kDevice, device); }
  void command(uint8_t opcode) const { set(devices::ata::kStatusOrCommand, opcode); }
  // Writes the parameters and the command. `device` selects the drive.
  void command(uint8_t opcode, uint32_t lba, uint8_t count, uint8_t device = kLba) const {
    using namespace devices::ata;
    set(kDevice, static_cast<uint8_t>(device | (lba >> 24 & 0x0f)));
    set(kSectorCount, count);
    set(kLbaLow, static_cast<uint8_t>(lba));
    set(kLbaMid, static_cast<uint8_t>(lba >> 8));
    set(kLbaHigh, static_cast<uint8_t>(lba >> 16));
    command(opcode);
  }
  void command_ext(uint8_t opcode, uint64_t lba, uint16_t count) const {
    using namespace devices::ata;
    set(kDevice, kLba);
    const auto both = [&](uint64_t port, uint32_t before, uint32_t now) {
      set(port, static_cast<uint8_t>(before));
      set(port, static_cast<uint8_t>(now));
    };
    both(kSectorCount, count >> 8, count);
    both(kLbaLow, static_cast<uint32_t>(lba >> 24), static_cast<uint32_t>(lba));
    both(kLbaMid, static_cast<uint32_t>(lba >> 32), static_cast<uint32_t>(lba >> 8));
    both(kLbaHigh, static_cast<uint32_t>(lba >> 40), static_cast<uint32_t>(lba >> 16));
    command(opcode);
  }
  // Executes a command, waits until it has ended, and returns the status.
  uint8_t finish(uint8_t opcode, uint32_t lba = 0, uint8_t count = 1) const {
    command(opcode, lba, count);
    (void)wait_until_ready();
    return status();
  }

  uint64_t data(size_t width = 2) const {
    return read_register(channel_->command_block(), devices::ata::kData, width);
  }
  void set_data(uint64_t value, size_t width = 2) const {
    write_register(channel_->command_block(), devices::ata::kData, value, width);
  }
  std::vector<std::byte> read_data(size_t size_bytes) const {
    std::vector<std::byte> bytes(size_bytes);
    for (size_t i = 0; i < size_bytes; i += 2)
      store_le(std::span(bytes).subspan(i), static_cast<uint16_t>(data()));
    return bytes;
  }
  void write_data(std::span<const std::byte> bytes) const {
    for (size_t i = 0; i < bytes.size(); i += 2) set_data(load_le<uint16_t>(bytes.subspan(i)));
  }

  // Sends a packet command and waits until the drive is not busy.
  void packet(std::span<const uint8_t> bytes, uint16_t limit, bool dma = false) const {
    using namespace devices::ata;
    set(kErrorOrFeatures, dma ? 1 : 0);
    set(kLbaMid, static_cast<uint8_t>(limit));
    set(kLbaHigh, static_cast<uint8_t>(limit >> 8));
    command(kPacket);
    std::array<std::byte, 12> whole{};
    std::ranges::copy(std::as_bytes(bytes), whole.begin());
    write_data(whole);
    (void)wait_until_ready();
  }
  uint16_t byte_count() const {
    return static_cast<uint16_t>(get(devices::ata::kLbaMid) | get(devices::ata::kLbaHigh) << 8);
  }

  uint8_t master(uint64_t port) const {
    return static_cast<uint8_t>(read_register(channel_->bus_master(), port, 1));
  }
  void set_master(uint64_t port, uint64_t value, size_t width = 1) const {
    write_register(channel_->bus_master(), port, value, width);
  }
  void start(uint8_t direction) const { set_master(kMasterCommand, direction | kStart); }
  void stop() const { set_master(kMasterCommand, 0); }

  struct Region {
    uint32_t address = 0;
    uint16_t size_bytes = 0;  // 0: 64 KiB
    uint16_t flags = 0;
  };
  void set_table(const GuestMemory& memory, uint32_t at, std::span<const Region> regions) const {
    for (size_t i = 0; i < regions.size(); ++i) memory.write({at + 8 * i}, regions[i]).value();
    set_master(kMasterTable, at, 4);
  }

 private:
  devices::IdeChannel* channel_;
};

}  // namespace wick::fakes
