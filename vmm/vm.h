// One virtual machine in the kernel: its memory slots, its interrupt
// controllers and timer, its event descriptors.
//
// Thread rule: set up before the first vCPU runs; set_irq(), send_msi() and
// ioeventfds from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/fd.h"
#include "base/guest_memory.h"
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
  // Delivers the message that a write of `data` to `address` stands for.
  void send_msi(uint64_t address, uint32_t data) const;

  // A write to `address` that signals `event` without an exit to user space: of
  // any length and value, or of 32 bits that are `value`.
  struct Ioeventfd {
    const EventFd* event = nullptr;
    uint64_t address = 0;
    std::optional<uint32_t> value = {};
  };
  Result<void> add(const Ioeventfd& wanted) const;
  void remove(const Ioeventfd& added) const;

  // A signal of `event` that is a message as of send_msi(). An irqfd of KVM's; the whole
  // table of their messages is set at once, `gsi` being a message's place in it.
  struct MsiRoute {
    const EventFd* event = nullptr;
    uint64_t address = 0;
    uint32_t data = 0;
    uint32_t gsi = 0;
  };
  static constexpr uint32_t kFirstMsiGsi = 24;  // behind the pins of the IO-APIC
  Result<void> set_routes(std::span<const MsiRoute> routes) const;
  Result<void> add(const MsiRoute& route) const;
  void remove(const MsiRoute& route) const;

  int fd() const { return fd_.get(); }
  const Kvm& kvm() const { return *kvm_; }

 private:
  Vm(const Kvm& kvm, Fd fd) : kvm_(&kvm), fd_(std::move(fd)) {}

  const Kvm* kvm_;
  Fd fd_;
};

}  // namespace wick
