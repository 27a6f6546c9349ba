// Connects the interrupt lines and messages of devices to KVM's interrupt controllers.
//
// Thread rule: any thread, as in base/interrupt.h.
#pragma once

#include <memory>
#include <vector>

#include "base/interrupt.h"
#include "base/mutex.h"
#include "vmm/vm.h"

namespace wick::vmm {

// A pin of the IO-APIC that is not shared. The pin is set by KVM_IRQ_LINE and not by an irqfd,
// because KVM delivers an irqfd on a pin through a kernel worker, which costs two more context
// switches.
class IrqLine final : public InterruptLine {
 public:
  // `vm` must outlive the line.
  IrqLine(const Vm& vm, uint32_t pin) : vm_(vm), pin_(pin) {}

  void pulse() override {
    vm_.set_irq(pin_, true);
    vm_.set_irq(pin_, false);
  }
  void set(bool asserted) override { vm_.set_irq(pin_, asserted); }

 private:
  const Vm& vm_;
  const uint32_t pin_;
};

// A level-triggered pin that devices share: asserted while any of them asserts it.
class SharedPin {
 public:
  // `vm` must outlive the pin.
  SharedPin(const Vm& vm, uint32_t pin) : line_(vm, pin) {}

  // Returns a line for one device. The pin must outlive the line.
  std::unique_ptr<InterruptLine> connect();

 private:
  class Handle;

  IrqLine line_;
  Mutex mutex_;
  unsigned asserted_ GUARDED_BY(mutex_) = 0;  // the number of devices that assert the pin
};

// Sends messages directly to the local APICs with one ioctl (KVM_SIGNAL_MSI), so KVM's routing
// table need not be replaced whenever a driver moves a vector. Only the events of connect(), which
// the host's kernel signals itself, have an entry in that table.
class MsiPort final : public MsiSink {
 public:
  // `vm` must outlive the port.
  explicit MsiPort(const Vm& vm) : vm_(vm) {}
  void send(uint64_t address, uint32_t data) override { vm_.send_msi(address, data); }
  bool connect(const EventFd& event, uint64_t address, uint32_t data) override;
  void disconnect(const EventFd& event) override;

 private:
  uint32_t free_gsi() const REQUIRES(mutex_);

  const Vm& vm_;
  Mutex mutex_;
  std::vector<Vm::MsiRoute> routes_ GUARDED_BY(mutex_);
  bool refusal_logged_ GUARDED_BY(mutex_) = false;
};

}  // namespace wick::vmm
