// A KVM virtual machine: memory slots, interrupt controllers, timer, ioeventfds and irqfds.
//
// Thread rule: create(), coalesce() and map(GuestMemory) before the first vCPU runs; everything
// else from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/result.h"
#include "devices/pit.h"
#include "vmm/kvm.h"

namespace wick::vmm {

class Vm {
 public:
  // Creates a machine with PIC, IO-APIC and local APICs in the kernel. `kvm` must outlive it.
  static Result<Vm> create(const Kvm& kvm);

  // Creates KVM's interval timer (PIT). Its counters start now from `state`. From then on KVM
  // serves ports 0x40 to 0x43 and 0x61.
  Result<void> create_pit(const devices::Pit::State& state) const;

  // Makes KVM queue the guest's writes within these ports (vmm/coalesced_ports.h), if it can.
  Result<void> coalesce(uint16_t port, uint32_t ports) const;
  // The offset of KVM's ring of queued writes in a vCPU's run area; 0: KVM queues none.
  size_t coalesced_ring_offset() const;

  // Maps `memory` into the guest, one slot per region. `memory` must outlive the Vm.
  Result<void> map(const GuestMemory& memory);

  // kLogged: KVM logs the pages that the guest writes. kReadOnly: the guest's writes cause exits.
  enum class Access { kReadWrite, kLogged, kReadOnly };
  // Further memory, which may be mapped while vCPUs run. It must live until the slot is unmapped or
  // the Vm is destroyed.
  struct Slot {
    uint32_t index = 0;
    GuestMemory::Region memory = {};
    Access access = Access::kReadWrite;
  };
  static constexpr uint32_t kFirmwareSlot = 8;
  static constexpr uint32_t kVideoSlot = 9;
  static constexpr uint32_t kFlashSlot = 10;
  // Maps a slot, or replaces the slot with this index.
  Result<void> map(const Slot& slot) const;
  void unmap(uint32_t index) const;
  // For a slot that is kLogged: sets a bit in `bits` for each page that the guest has written since
  // the last call, and clears the other bits.
  Result<void> take_dirty_pages(uint32_t index, std::span<uint64_t> bits) const;

  // Sets the level of a pin of the IO-APIC; for a pin below 16, also of the PIC.
  void set_irq(uint32_t pin, bool asserted) const;
  // Delivers an MSI, that is, a write of `data` to `address`.
  void send_msi(uint64_t address, uint32_t data) const;

  // An ioeventfd: a write of the guest to `address` makes KVM signal `event`, without an exit to
  // user space. With `value`, only a 32-bit write of that value counts; otherwise a write of any
  // value and length.
  struct Ioeventfd {
    const EventFd* event = nullptr;
    uint64_t address = 0;
    std::optional<uint32_t> value = {};
  };
  Result<void> add(const Ioeventfd& wanted) const;
  void remove(const Ioeventfd& added) const;

  // An irqfd: when `event` is signalled, KVM sends the message as send_msi() does. set_routes()
  // replaces the whole routing table; add() then connects the event to its entry, whose number is
  // `gsi`.
  struct MsiRoute {
    const EventFd* event = nullptr;
    uint64_t address = 0;
    uint32_t data = 0;
    uint32_t gsi = 0;
  };
  static constexpr uint32_t kFirstMsiGsi = 24;  // after the pins of the IO-APIC
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

}  // namespace wick::vmm
