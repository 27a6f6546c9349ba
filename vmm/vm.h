// One virtual machine in the kernel: its memory slots, its interrupt
// controllers and timer, its event descriptors.
//
// Thread rule: set up before the first vCPU runs; set_irq() from any thread.
#pragma once

#include <cstdint>
#include <memory>

#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/interrupt.h"
#include "base/result.h"
#include "vmm/kvm.h"

namespace wick {

class Vm {
 public:
  // With PIC, IO-APIC, local APICs and PIT in the kernel. `kvm` must outlive it.
  static Result<Vm> create(const Kvm& kvm);

  // Gives the guest `memory`, a slot per region; it must outlive the Vm.
  Result<void> map(const GuestMemory& memory);

  // The level of a pin of the IO-APIC (and of the PIC, below 16).
  void set_irq(uint32_t pin, bool asserted) const;
  // A 32-bit write of `value` to `address` signals `event`, without an exit to
  // user space.
  Result<void> ioeventfd(const EventFd& event, uint64_t address, uint32_t value) const;

  int fd() const { return fd_.get(); }
  const Kvm& kvm() const { return *kvm_; }

 private:
  Vm(const Kvm& kvm, Fd fd) : kvm_(&kvm), fd_(std::move(fd)) {}

  const Kvm* kvm_;
  Fd fd_;
};

// A pin of the interrupt controllers as a device sees it. (Not an irqfd: KVM
// hands an irqfd on such a pin to a kernel worker, two context switches that
// this ioctl does not cost. It is MSIs that an irqfd delivers at once.)
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

}  // namespace wick
