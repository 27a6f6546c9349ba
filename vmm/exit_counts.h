// Where a vCPU's exits to user space went: by kind, and for port and memory
// accesses by port and by page.
//
// Thread rule: count() on the vCPU's thread; total() from any; the rest when
// the vCPU has stopped.
#pragma once

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "base/bus.h"

namespace wick {

class ExitCounts {
 public:
  ExitCounts()
      : ports_(static_cast<uint32_t*>(::mmap(nullptr, kPortsBytes, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
  }
  ExitCounts(const ExitCounts&) = delete;
  ExitCounts& operator=(const ExitCounts&) = delete;
  ~ExitCounts() {
    if (ports_ != MAP_FAILED) ::munmap(ports_, kPortsBytes);
  }

  // `reason`: KVM_EXIT_*.
  void count(uint32_t reason) {
    // One writer: no need for a locked addition.
    auto& counter = by_reason_[reason % by_reason_.size()];
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void count_port(uint16_t port) {
    if (ports_ != MAP_FAILED) ++ports_[port];
  }
  // Pages that no device answers for are one row: a guest could touch any number.
  void count_page(uint64_t page, bool answered) { ++pages_[answered ? page : kNobodysPage]; }

  uint64_t total() const;

  // A table for people, the most frequent first; the buses give the names.
  std::string table(const Bus& ports, const Bus& mmio) const;

 private:
  static constexpr size_t kPortsBytes = 65536 * sizeof(uint32_t);
  static constexpr uint64_t kNobodysPage = ~0ull;

  std::array<std::atomic<uint64_t>, 64> by_reason_{};
  uint32_t* ports_;  // only the pages of ports in use take memory
  std::unordered_map<uint64_t, uint64_t> pages_;
};

// "io", "mmio", ...: the name of a KVM_EXIT_ constant in lower case.
std::string exit_reason_name(uint32_t reason);

}  // namespace wick
