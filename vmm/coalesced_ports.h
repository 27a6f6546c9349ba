// Writes to ports that only select a register: the guest's next access shows their effect. KVM
// queues them in a ring, which all vCPUs share, and the guest goes on without an exit
// (KVM_CAP_COALESCED_PIO). The queued writes are delivered before the next exit of any vCPU is
// handled, and by the halt check at least once per second.
//
// Thread rule: any vCPU thread; locks itself.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/bus.h"
#include "base/mutex.h"

namespace wick::vmm {

class CoalescedPorts {
 public:
  // `ports` must outlive it.
  explicit CoalescedPorts(const Bus& ports) : ports_(ports) {}

  // The layout of kvm_coalesced_mmio_ring. In C++ the header's flexible array may begin at
  // another offset.
  struct Ring {
    uint32_t first;
    uint32_t last;
    std::array<kvm_coalesced_mmio, 170> writes;  // KVM_COALESCED_MMIO_MAX: the rest of a page
  };

  // The ring in the run area of any vCPU. Without one nothing is delivered.
  void set_ring(Ring* ring) { ring_ = ring; }

  // Delivers the writes that are queued.
  void deliver() {
    if (ring_ != nullptr && std::atomic_ref(ring_->first).load(std::memory_order_relaxed) !=
                                std::atomic_ref(ring_->last).load(std::memory_order_relaxed))
      deliver_all();
  }

 private:
  void deliver_all();

  const Bus& ports_;
  Ring* ring_ = nullptr;  // shared with KVM; the pointer is constant after the set-up
  Mutex mutex_;
};
static_assert(offsetof(CoalescedPorts::Ring, writes) == 8);

}  // namespace wick::vmm
