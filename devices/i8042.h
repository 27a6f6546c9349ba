// The keyboard controller of a PC. It provides the reset line that Linux's `reboot=k` uses, and has
// a port for a PS/2 keyboard and one for a PS/2 mouse.
//
// With nothing plugged in, the controller still replies to the commands by which an operating
// system probes for keyboards, because Linux waits half a second for each missing reply. In this
// state the controller has no auxiliary port, and a new reply replaces one that the guest has not
// read.
//
// Each byte for the guest goes through the output buffer, which holds one byte. The replies of the
// controller itself go first, in their order, then the bytes of the keyboard, then those of the
// mouse. The A20 gate is a bit that the guest can write and read; it does not change the memory.
//
// Thread rule: any vCPU thread; locks itself. The devices call the controller on any thread.
// The lock is held when a device or an interrupt line is called. `on_reset` is called without
// the lock, on the vCPU's thread, each time the guest pulses the reset line.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference (1990),
// "Keyboard and Auxiliary Device Controller".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>

#include "base/bus.h"
#include "base/interrupt.h"
#include "base/mutex.h"
#include "devices/ps2_device.h"

namespace wick::devices {

class I8042 {
 public:
  static constexpr size_t kRamBytes = 32;
  // The number of replies that may wait. A guest that does not read them loses further replies.
  static constexpr size_t kMaxReplies = 16;

  enum class Source : uint8_t { kController, kKeyboard, kMouse };
  struct Reply {
    uint8_t byte = 0;
    Source source = Source::kController;
    bool operator==(const Reply&) const = default;
  };

  struct State {
    uint8_t command_byte = 0x74;  // as firmware leaves it: tested, translating, ports off
    uint8_t pending_command = 0;  // the command that waits for its data byte; 0: none
    uint8_t output = 0;
    bool output_full = false;
    Source output_source = Source::kController;
    // The fields below are used only if a device is plugged in.
    uint8_t output_port = 0xcf;     // the bits that the guest has written
    bool last_was_command = false;  // the last write was to the command port
    bool keyboard_line = false;     // the last levels of the two interrupt lines
    bool mouse_line = false;
    std::deque<Reply> replies = {};           // replies that wait for the output buffer
    std::array<uint8_t, kRamBytes> ram = {};  // byte 0 is unused: see `command_byte`
    bool operator==(const State&) const = default;
  };

  explicit I8042(std::function<void()> on_reset) : on_reset_(std::move(on_reset)) {}
  ~I8042();
  I8042(const I8042&) = delete;
  I8042& operator=(const I8042&) = delete;

  // Plugs devices in, before the guest runs; nullptr: nothing is in that port. The devices and the
  // lines must outlive the controller. Each byte from a device causes an edge on the device's line
  // if the guest has enabled that interrupt.
  void plug(Ps2Device* keyboard, Ps2Device* mouse, InterruptLine& irq1, InterruptLine& irq12);

  BusDevice& data_port() { return data_port_; }        // port 0x60
  BusDevice& command_port() { return command_port_; }  // port 0x64: command and status

  State state() const;

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

  bool plugged() const { return keyboard_ != nullptr || mouse_ != nullptr; }
  uint8_t read_data() REQUIRES(mutex_);
  uint8_t status() const REQUIRES(mutex_);
  bool command(uint8_t value) REQUIRES(mutex_);
  void plugged_command(uint8_t value) REQUIRES(mutex_);
  bool data(uint8_t value) REQUIRES(mutex_);
  uint8_t read_output_port() const REQUIRES(mutex_);
  void reply(uint8_t value, Source source = Source::kController) REQUIRES(mutex_);
  void update() REQUIRES(mutex_);
  bool take_from_keyboard() REQUIRES(mutex_);
  void take_from_mouse() REQUIRES(mutex_);
  void put(uint8_t value, Source source) REQUIRES(mutex_);
  void update_lines() REQUIRES(mutex_);
  void on_device_data() EXCLUDES(mutex_);

  const std::function<void()> on_reset_;
  DataPort data_port_{*this};
  CommandPort command_port_{*this};

  // Constant after plug().
  Ps2Device* keyboard_ = nullptr;
  Ps2Device* mouse_ = nullptr;
  InterruptLine* irq1_ = nullptr;
  InterruptLine* irq12_ = nullptr;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
};

}  // namespace wick::devices
