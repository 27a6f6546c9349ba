// The interrupt wires and messages of a machine's devices, into KVM's interrupt
// controllers.
//
// Thread rule: as base/interrupt.h, any thread.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "base/interrupt.h"
#include "vmm/vm.h"

namespace wick {

// A pin that one device has for itself. (Not an irqfd: KVM hands an irqfd on a
// pin to a kernel worker, two context switches that this ioctl does not cost.)
class IrqLine final : public InterruptLine {
 public:
  // `vm` must outlive it.
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

// A level-triggered pin that devices share: high while any of them wants it.
class SharedPin {
 public:
  // `vm` must outlive it.
  SharedPin(const Vm& vm, uint32_t pin) : line_(vm, pin) {}

  // The handle of one device, which the pin must outlive.
  std::unique_ptr<InterruptLine> connect();

 private:
  class Handle;

  IrqLine line_;
  std::mutex mutex_;
  unsigned asserted_ = 0;  // how many handles; guarded by mutex_
};

// Messages go straight to the local APICs: one ioctl, and no table of routes
// that would have to be replaced whenever a driver moves a vector. There is one only for
// events that are connected, for what the host's kernel sends by itself.
class MsiPort final : public MsiSink {
 public:
  // `vm` must outlive it.
  explicit MsiPort(const Vm& vm) : vm_(vm) {}
  void send(uint64_t address, uint32_t data) override { vm_.send_msi(address, data); }
  bool connect(const EventFd& event, uint64_t address, uint32_t data) override;
  void disconnect(const EventFd& event) override;

 private:
  uint32_t free_gsi() const;

  const Vm& vm_;
  std::mutex mutex_;
  std::vector<Vm::MsiRoute> routes_;  // guarded by mutex_
};

}  // namespace wick
