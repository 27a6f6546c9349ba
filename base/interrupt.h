// How a device interrupts the guest: by a wire, or by a message. The device
// knows neither the wire's number nor the interrupt controller; vmm/ makes the
// real ones, tests count.
//
// Thread rule: any thread may call any of these at any time.
#pragma once

#include <cstdint>

namespace wick {

class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  // One edge: for edge-triggered interrupts, where each call is one message.
  virtual void pulse() = 0;
  // The level of the wire: for sources that stay asserted until served.
  virtual void set(bool asserted) = 0;
};

// Takes message signalled interrupts: the writes of `data` to `address` that
// the guest chose (PCI 3.0, 6.8).
class MsiSink {
 public:
  virtual ~MsiSink() = default;
  virtual void send(uint64_t address, uint32_t data) = 0;
};

}  // namespace wick
