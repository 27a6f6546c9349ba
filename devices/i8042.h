// The keyboard controller of a PC, with nothing plugged in. It is here for its
// reset line, which is how `reboot=k` restarts the machine; it also answers
// what an operating system asks when it looks for keyboards, because waiting
// for an answer that does not come costs Linux half a second per question.
//
// Thread rule: any vCPU thread; locks itself. `on_reset` is called outside the
// lock, on the vCPU's thread, each time the guest pulls the line.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference (1990),
// "Keyboard and Auxiliary Device Controller".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "base/bus.h"

namespace wick::devices {

class I8042 final : public BusDevice {
 public:
  // Ports 0x60 (data) to 0x64 (command and status). Between them lies 0x61,
  // which belongs to the interval timer: KVM's answers it before user space
  // sees it (KVM_PIT_SPEAKER_DUMMY). Here, what lies between is nobody's.
  static constexpr uint64_t kPorts = 5;

  struct State {
    uint8_t command_byte = 0x74;  // as firmware leaves it: tested, translating, both ports off
    uint8_t pending_command = 0;  // waits for a byte at the data port; 0: none
    uint8_t output = 0;
    bool output_full = false;
    bool operator==(const State&) const = default;
  };

  explicit I8042(std::function<void()> on_reset) : on_reset_(std::move(on_reset)) {}

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

 private:
  uint8_t read_register(uint64_t offset);
  bool write_register(uint64_t offset, uint8_t value);
  bool command(uint8_t value);
  bool data(uint8_t value);
  void reply(uint8_t value);

  const std::function<void()> on_reset_;

  std::mutex mutex_;
  State state_;  // guarded by mutex_
};

}  // namespace wick::devices
