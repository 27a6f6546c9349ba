// Address decoding: a Bus maps a guest's port or MMIO address to the device there. A
// machine has two buses, one for ports and one for MMIO.
//
// Thread rule: attach() before the first vCPU runs; afterwards the map is frozen, so any
// vCPU thread may look up without a lock. Each device does its own locking.
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

// A device on a bus. It gets offsets into its own range, never its address. An access
// lies wholly within the range. Its length is any number from 1 to 8, because KVM splits
// an access that crosses a page boundary.
class BusDevice {
 public:
  // The name of an access in statistics.
  struct Name {
    std::string_view reg;     // valid as long as the device; empty: not a named register
    std::string_view device;  // set if the range holds several devices; empty: the range's name
  };

  virtual ~BusDevice() = default;
  virtual void read(uint64_t offset, std::span<std::byte> data) = 0;
  virtual void write(uint64_t offset, std::span<const std::byte> data) = 0;
  // `write` matters because some chips have different registers for reading and writing
  // at the same offset.
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

  // Puts `device` at `range`. The caller keeps the device, which must outlive the bus. Fails if the
  // range is empty, wraps around, or overlaps another range.
  Result<void> attach(Range range, BusDevice& device, std::string name);

  // Return false if the access does not lie wholly within one device's range. As on a PC, such a
  // read gives all ones and such a write is ignored.
  bool read(uint64_t address, std::span<std::byte> data) const;
  bool write(uint64_t address, std::span<const std::byte> data) const;

  // Returns the ranges and their devices, sorted by start.
  const std::vector<Entry>& entries() const { return entries_; }

  // Returns the name of an access, for statistics; empty if no device is there.
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
  // The entry found last: a guest often accesses one device many times in a row.
  mutable std::atomic<const Entry*> last_{nullptr};
};

}  // namespace wick
