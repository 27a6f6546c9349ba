// What is plugged into a port of the keyboard controller: a PS/2 keyboard or mouse.
//
// Thread rule: the controller calls write() and read() with its lock held; the device locks itself.
// So the device must not hold its own lock when it calls `on_data`.
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
  // Sets the function that the device calls, on any thread, when it has a new byte that is not the
  // answer to write(). An empty function disconnects the device. connect() must be called before
  // the first byte, and not while the host's side calls the device (InputDevice).
  virtual void connect(std::function<void()> on_data) = 0;
  // Takes a byte from the controller: a command, or its parameter.
  virtual void write(uint8_t byte) = 0;
  // Returns the next byte for the controller, if there is one.
  virtual std::optional<uint8_t> read() = 0;
};

// Bytes that both kinds of devices send.
constexpr uint8_t kPs2Acknowledge = 0xfa;
constexpr uint8_t kPs2SelfTestPassed = 0xaa;
constexpr uint8_t kPs2Resend = 0xfe;  // the device did not understand the byte

// The number of reply bytes that may wait to be read. The longest reply has 5 bytes; a driver that
// sends commands without reading the replies loses the rest.
constexpr size_t kPs2MaxReplyBytes = 16;

}  // namespace wick::devices
