#include "vmm/coalesced_ports.h"

#include <algorithm>
#include <span>

namespace wick::vmm {

void CoalescedPorts::deliver_all() {
  const MutexLock lock(mutex_);
  const std::atomic_ref first(ring_->first);
  const std::atomic_ref last(ring_->last);
  uint32_t at = first.load(std::memory_order_relaxed);
  while (at != last.load(std::memory_order_acquire)) {
    const kvm_coalesced_mmio& write = ring_->writes[at];
    ports_.write(write.phys_addr,
                 std::as_bytes(std::span(write.data).first(std::min<size_t>(write.len, 8))));
    at = (at + 1) % static_cast<uint32_t>(ring_->writes.size());
    first.store(at, std::memory_order_release);
  }
}

}  // namespace wick::vmm
