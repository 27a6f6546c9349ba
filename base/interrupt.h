// One interrupt wire from a device. The device knows neither its number nor
// the interrupt controller; vmm/ makes the real ones, tests count.
//
// Thread rule: any thread may call any of these at any time.
#pragma once

namespace wick {

class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  // One edge: for edge-triggered interrupts, where each call is one message.
  virtual void pulse() = 0;
  // The level of the wire: for sources that stay asserted until served.
  virtual void set(bool asserted) = 0;
};

}  // namespace wick
