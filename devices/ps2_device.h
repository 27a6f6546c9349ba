// What is plugged into a port of the keyboard controller: a PS/2 keyboard or mouse.
//
// Thread rule: the controller calls write() and read() with its lock held; the device locks
// itself. So the device must not hold its own lock when it calls the function of connect().
//
// Specification: IBM PS/2 Hardware Interface Technical Reference (1990),
// "Keyboard and Auxiliary Device Controller".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

namespace wick::devices {

class Ps2Device {
 public:
  virtual ~Ps2Device() = default;
  // `on_data` is called, on any thread, when the device has a new byte, unless that is the answer
  // to write(). An empty function disconnects the device. To be called
  // before the first byte, and not at the same time as the calls of the host's side.
  virtual void connect(std::function<void()> on_data) = 0;
  // Takes a byte from the controller: a command, or its parameter.
  virtual void write(uint8_t byte) = 0;
  // Returns the next byte for the controller, if there is one.
  virtual std::optional<uint8_t> read() = 0;
};

// Bytes that both kinds of devices send.
constexpr uint8_t kPs2Acknowledge = 0xfa;
constexpr uint8_t kPs2SelfTestPassed = 0xaa;
constexpr uint8_t kPs2Resend = 0xfe;  // the byte was not understood

// The bound of the replies that wait to be read. The longest one has 5 bytes; a driver that
// sends commands without reading the replies loses the rest.
constexpr size_t kPs2MaxReplyBytes = 16;

}  // namespace wick::devices
