// Who answers a guest's access to a port or to an MMIO address. There are two
// buses, one for each kind.
//
// Thread rule: attach() before the first vCPU runs; afterwards the map is
// frozen, so look-ups take no lock and any vCPU thread may make them. A device
// locks itself.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick {

// A device as a bus sees it: it knows offsets into its own range, never its
// address. An access lies wholly within the range; its length is 1 to 8, and any
// of these: KVM splits what goes over the end of a page.
class BusDevice {
 public:
  // What statistics call an access.
  struct Name {
    std::string_view reg;     // lives as long as the device; empty: no register of its
    std::string_view device;  // where one range holds several devices; empty: the range's name
  };

  virtual ~BusDevice() = default;
  virtual void read(uint64_t offset, std::span<std::byte> data) = 0;
  virtual void write(uint64_t offset, std::span<const std::byte> data) = 0;
  // `write`: at one offset a PC's chips read and write different registers.
  virtual Name name_of(uint64_t /*offset*/, bool /*write*/) const { return {}; }
};

class Bus {
 public:
  struct Range {
    uint64_t start = 0;
    uint64_t size = 0;  // in ports, or in bytes
  };
  struct Entry {
    Range range;
    BusDevice* device = nullptr;
    std::string name;
  };

  // The device stays the caller's and must outlive the bus. An empty range, one
  // that wraps, or one that overlaps another is refused.
  Result<void> attach(Range range, BusDevice& device, std::string name);

  // An address nobody answers reads as all ones and takes writes in silence, as
  // on a PC; false then. An access over the end of a device's range counts as
  // nobody's.
  bool read(uint64_t address, std::span<std::byte> data) const;
  bool write(uint64_t address, std::span<const std::byte> data) const;

  // For statistics; empty for nobody's.
  BusDevice::Name name_of(uint64_t address, size_t size, bool write) const;

 private:
  const Entry* find(uint64_t address, size_t size) const {
    const Entry* entry = last_.load(std::memory_order_relaxed);
    if (entry == nullptr || address - entry->range.start >= entry->range.size) {
      entry = search(address);
      if (entry == nullptr) return nullptr;
    }
    return size <= entry->range.size - (address - entry->range.start) ? entry : nullptr;
  }
  const Entry* search(uint64_t address) const;

  std::vector<Entry> entries_;  // sorted by start, no overlaps
  // The last one found: a guest stays with a device for many accesses.
  mutable std::atomic<const Entry*> last_{nullptr};
};

}  // namespace wick
