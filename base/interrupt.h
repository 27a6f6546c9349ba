// How a device interrupts the guest: by an interrupt line or by a message (MSI). A device
// does not depend on the line's number or the interrupt controller: vmm/ implements these
// interfaces with KVM, and tests with counters.
//
// Thread rule: any thread may call any of these at any time.
#pragma once

#include <cstdint>

#include "base/fd.h"

namespace wick {

class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  // For edge-triggered interrupts: each call is one interrupt.
  virtual void pulse() = 0;
  // For level-triggered interrupts: the line stays asserted until the device is served.
  virtual void set(bool asserted) = 0;
};

// Delivers message signalled interrupts: writes of `data` to `address`, both chosen by the
// guest (PCI 3.0, 6.8).
class MsiSink {
 public:
  virtual ~MsiSink() = default;
  virtual void send(uint64_t address, uint32_t data) = 0;
  // Turns each signal of `event` into the message `data` to `address`, until disconnect(). The
  // kernel delivers the message (irqfd); no wick thread wakes up. Signals that are pending in
  // `event` are delivered at once. A second call replaces the message. On failure returns false;
  // `event` is not connected then, even if it was before.
  virtual bool connect(const EventFd& event, uint64_t address, uint32_t data) {
    static_cast<void>(event), static_cast<void>(address), static_cast<void>(data);
    return false;
  }
  // Ends the connection: later signals stay pending in `event`.
  virtual void disconnect(const EventFd& event) { static_cast<void>(event); }
};

}  // namespace wick
