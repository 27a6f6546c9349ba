// A PCI function: its configuration space with base address registers,
// capabilities and interrupts. What the function does is behind its BARs.
//
// Thread rule: made before the first vCPU runs; afterwards read_config() and
// write_config() under the lock of the host bridge, find() from any thread.
//
// Specification: PCI Local Bus 3.0, 6.1 (layout), 6.2 (registers), 6.7
// (capabilities).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/bus.h"
#include "devices/pci/interrupts.h"

namespace wick::devices {

class PciFunction {
 public:
  static constexpr uint64_t kConfigBytes = 256;  // there are no extended capabilities

  enum class Space : uint8_t { kMemory, kIo };

  struct Identity {
    uint16_t vendor = 0;
    uint16_t device = 0;
    uint16_t subsystem_vendor = 0;
    uint16_t subsystem = 0;
    uint32_t class_code = 0;  // class, subclass, programming interface
    uint8_t revision = 0;
  };

  // Where a BAR is decoded now; 0 for nowhere.
  using Moved = std::function<void(uint64_t from, uint64_t to)>;
  // Whether the function may access guest memory now (6.2.2, Bus Master). After the call with
  // false has returned, it does not, until the call with true.
  using BusMasterChanged = std::function<void(bool enabled)>;

  // `interrupts` must outlive it; nullptr for a function without.
  PciFunction(const Identity& identity, PciInterrupts* interrupts);

  // A 32-bit memory BAR of `size_bytes`, a power of two from 4096 up, behind
  // which is `device`. `moved` hears of each change of its address.
  void add_bar(size_t index, uint32_t size_bytes, BusDevice& device, Moved moved = {});
  // The same in I/O space, of `ports` ports, a power of two from 4 up.
  void add_io_bar(size_t index, uint32_t ports, BusDevice& device);
  // The MSI-X capability and its BAR.
  void add_msix(size_t bar_index);
  // `body` comes behind the two bytes of every capability; of its bits, those
  // in `writable` (as long, or empty) are the driver's. Gives its offset.
  uint8_t add_capability(uint8_t id, std::span<const std::byte> body,
                         std::span<const std::byte> writable = {});
  // Four bytes at `offset`, behind the header, that the function only keeps; of
  // their bits, those in `writable` are the guest's.
  void add_register(uint8_t offset, uint32_t value, uint32_t writable);
  // At first the function is a bus master. `changed` hears of each change, before the guest's
  // write returns, and under the lock of the host bridge; it may wait for the device's loop.
  void on_bus_master(BusMasterChanged changed) { bus_master_changed_ = std::move(changed); }
  // Accesses to the four bytes at `offset` go to `device` instead.
  void set_window(uint8_t offset, BusDevice& device);

  // For the host bridge: it decodes only BARs that lie within `window`, and
  // starts them from `next` on, which moves up.
  void place_bars(const Bus::Range& window, uint64_t& next, uint8_t interrupt_line);
  // The same for those in I/O space.
  void place_io_bars(const Bus::Range& window, uint64_t& next);

  // Accesses of 1 to 8 bytes; what goes over the end is nobody's.
  void read_config(uint64_t offset, std::span<std::byte> data);
  void write_config(uint64_t offset, std::span<const std::byte> data);

  // The device behind `address` and the offset there, or nullptr.
  BusDevice* find(uint64_t address, size_t size, uint64_t& offset,
                  Space space = Space::kMemory) const;

 private:
  struct Bar {
    Space space = Space::kMemory;
    uint32_t size_bytes = 0;  // or ports
    BusDevice* device = nullptr;
    Moved moved;
    std::atomic<uint64_t> base = 0;  // as for Moved
  };

  template <typename T>
  T get(uint64_t offset) const;
  template <typename T>
  void set(uint64_t offset, T value, T writable = 0);
  void place(Space space, uint64_t& next);
  void apply();

  PciInterrupts* const interrupts_;
  std::array<Bar, 6> bars_;
  Bus::Range window_;
  Bus::Range io_window_;
  uint8_t last_capability_ = 0x34;  // where the next one's offset goes
  uint8_t next_capability_ = 0x40;
  uint8_t msix_ = 0;  // the capability's offset
  uint8_t access_window_ = 0;
  BusDevice* access_device_ = nullptr;
  BusMasterChanged bus_master_changed_;
  bool bus_master_ = true;  // as bus_master_changed_ knows it

  // What the guest can see.
  std::array<std::byte, kConfigBytes> config_{};
  std::array<std::byte, kConfigBytes> writable_{};
};

}  // namespace wick::devices
