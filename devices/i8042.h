// The keyboard controller of a PC, with nothing plugged in. It provides the reset line
// that `reboot=k` uses. It also replies to the commands by which an operating system
// probes for keyboards, because Linux waits half a second for each missing reply.
//
// Thread rule: any vCPU thread; locks itself. `on_reset` is called without the lock, on
// the vCPU's thread, each time the guest pulses the reset line.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference (1990),
// "Keyboard and Auxiliary Device Controller".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/bus.h"
#include "base/mutex.h"

namespace wick::devices {

class I8042 {
 public:
  struct State {
    uint8_t command_byte = 0x74;  // as firmware leaves it: tested, translating, both ports off
    uint8_t pending_command = 0;  // the command that waits for its data byte; 0: none
    uint8_t output = 0;
    bool output_full = false;
    bool operator==(const State&) const = default;
  };

  explicit I8042(std::function<void()> on_reset) : on_reset_(std::move(on_reset)) {}

  BusDevice& data_port() { return data_port_; }        // port 0x60
  BusDevice& command_port() { return command_port_; }  // port 0x64: command and status

 private:
  class DataPort final : public BusDevice {
   public:
    explicit DataPort(I8042& chip) : chip_(chip) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;

   private:
    I8042& chip_;
  };

  class CommandPort final : public BusDevice {
   public:
    explicit CommandPort(I8042& chip) : chip_(chip) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;

   private:
    I8042& chip_;
  };

  bool command(uint8_t value) REQUIRES(mutex_);
  bool data(uint8_t value) REQUIRES(mutex_);
  void reply(uint8_t value) REQUIRES(mutex_);

  const std::function<void()> on_reset_;
  DataPort data_port_{*this};
  CommandPort command_port_{*this};

  Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
};

}  // namespace wick::devices
