// How a device interrupts the guest: by a wire, or by a message. The device
// knows neither the wire's number nor the interrupt controller; vmm/ makes the
// real ones, tests count.
//
// Thread rule: any thread may call any of these at any time.
#pragma once

#include <cstdint>

#include "base/fd.h"

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
  // True: until disconnect() each signal of `event` is such a message, which no thread
  // of ours has to send; what was signalled before is sent now. Again, with another
  // message, replaces it. False: it is not connected (any more).
  virtual bool connect(const EventFd& event, uint64_t address, uint32_t data) {
    static_cast<void>(event), static_cast<void>(address), static_cast<void>(data);
    return false;
  }
  // What is signalled from now on waits in the event.
  virtual void disconnect(const EventFd& event) { static_cast<void>(event); }
};

}  // namespace wick
