#include "base/bus.h"

#include <algorithm>

namespace wick {

Result<void> Bus::attach(Range range, BusDevice& device, std::string name) {
  if (range.size == 0 || range.start + (range.size - 1) < range.start)
    return fail("bus: bad range {:#x} + {:#x} for {}", range.start, range.size, name);
  const auto after = std::ranges::upper_bound(entries_, range.start, {},
                                              [](const Entry& entry) { return entry.range.start; });
  const Entry* below = after == entries_.begin() ? nullptr : &*(after - 1);
  const Entry* above = after == entries_.end() ? nullptr : &*after;
  if (below != nullptr && range.start - below->range.start < below->range.size)
    return fail("bus: {} at {:#x} overlaps {}", name, range.start, below->name);
  if (above != nullptr && above->range.start - range.start < range.size)
    return fail("bus: {} at {:#x} overlaps {}", name, range.start, above->name);
  entries_.insert(after, Entry{range, &device, std::move(name)});
  last_ = nullptr;  // insert() may have moved the entries
  return {};
}

const Bus::Entry* Bus::search(uint64_t address) const {
  auto after = std::ranges::upper_bound(entries_, address, {},
                                        [](const Entry& entry) { return entry.range.start; });
  if (after == entries_.begin()) return nullptr;
  const Entry& entry = *--after;
  if (address - entry.range.start >= entry.range.size) return nullptr;
  last_.store(&entry, std::memory_order_relaxed);
  return &entry;
}

bool Bus::read(uint64_t address, std::span<std::byte> data) const {
  const Entry* entry = find(address, data.size());
  if (entry == nullptr) {
    std::ranges::fill(data, std::byte{0xff});
    return false;
  }
  entry->device->read(address - entry->range.start, data);
  return true;
}

bool Bus::write(uint64_t address, std::span<const std::byte> data) const {
  const Entry* entry = find(address, data.size());
  if (entry == nullptr) return false;
  entry->device->write(address - entry->range.start, data);
  return true;
}

BusDevice::Name Bus::name_of(uint64_t address, size_t size, bool write) const {
  const Entry* entry = find(address, size);
  if (entry == nullptr) return {};
  BusDevice::Name name = entry->device->name_of(address - entry->range.start, write);
  if (name.device.empty()) name.device = entry->name;
  return name;
}

}  // namespace wick
