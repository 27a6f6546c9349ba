// A PCI function: its configuration space with base address registers (BARs),
// capabilities and interrupts. The function's own registers are BusDevices behind the
// BARs.
//
// Thread rule: made before a vCPU can reach it. Afterwards read_config() and
// write_config() are called with the host bridge's lock held, find() by any thread.
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
    uint32_t class_code = 0;  // a byte each: class, subclass, programming interface
    uint8_t revision = 0;
  };

  // Called when the address of a BAR changes; 0 means that the BAR is not decoded.
  using Moved = std::function<void(uint64_t from, uint64_t to)>;
  // Called when the Bus Master bit (6.2.2) changes. After a call with false has returned, the
  // device must not access guest memory until a call with true.
  using BusMasterChanged = std::function<void(bool enabled)>;

  // `interrupts` must outlive the function; nullptr if it has no interrupts.
  PciFunction(const Identity& identity, PciInterrupts* interrupts);

  // Adds a 32-bit memory BAR that decodes to `device`. `size_bytes` is a power of two,
  // at least 4096. `moved` is called for each change of the BAR's address.
  void add_bar(size_t index, uint32_t size_bytes, BusDevice& device, Moved moved = {});
  // Adds a BAR in I/O space; `ports` is a power of two, at least 4.
  void add_io_bar(size_t index, uint32_t ports, BusDevice& device);
  // Adds the MSI-X capability and its BAR.
  void add_msix(size_t bar_index);
  // Adds a capability and returns its offset. `body` follows the two bytes that every
  // capability starts with; a driver can write the bits set in `writable`, which has the
  // size of `body` or is empty.
  uint8_t add_capability(uint8_t id, std::span<const std::byte> body,
                         std::span<const std::byte> writable = {});
  // Adds a 32-bit register without effect at `offset`, behind the header. The guest can
  // write the bits set in `writable`.
  void add_register(uint8_t offset, uint32_t value, uint32_t writable);
  // Tells software that probes function 0 of a slot that the slot has other functions (6.2.1).
  void set_multifunction();
  // Sets the callback for changes of the Bus Master bit, which is set at first. `changed` is
  // called before the guest's write returns and with the host bridge's lock held; it may wait
  // for the device's loop.
  void on_bus_master(BusMasterChanged changed) { bus_master_changed_ = std::move(changed); }
  // Redirects accesses to the four bytes at `offset` to `device`.
  void set_window(uint8_t offset, BusDevice& device);

  // For the host bridge: gives each memory BAR the next aligned address from `next` on,
  // and advances `next`. Only BARs within `window` are decoded.
  void place_bars(const Bus::Range& window, uint64_t& next, uint8_t interrupt_line);
  // Does what place_bars() does, for BARs in I/O space.
  void place_io_bars(const Bus::Range& window, uint64_t& next);

  // For a function that is plugged in while the guest runs: leaves its BARs without addresses and
  // not decoded, because only the guest knows which addresses are free.
  void leave_unplaced(const Bus::Range& window, const Bus::Range& io_window,
                      uint8_t interrupt_line);
  // Stops decoding all BARs, and calls the `moved` function of each BAR that was decoded.
  void stop_decoding();

  // What a driver would find in the configuration space.
  struct Description {
    Identity identity;
    uint8_t interrupt_line = 0;
    uint8_t interrupt_pin = 0;  // 1: INTA; 0: no interrupt
    struct Address {
      size_t index = 0;
      Space space = Space::kMemory;
      uint64_t base = 0;  // 0: the BAR is not decoded
      uint64_t size_bytes = 0;
    };
    std::vector<Address> bars;
  };
  // Describes the function for the host. Called with the host bridge's lock held.
  Description describe() const;

  // An access has 1 to 8 bytes. An access that crosses the end of the configuration space reads
  // zeroes or writes nothing.
  void read_config(uint64_t offset, std::span<std::byte> data);
  void write_config(uint64_t offset, std::span<const std::byte> data);

  // Returns the device whose BAR decodes `address`, and sets `offset` to the offset of `address` in
  // the BAR; nullptr if there is none.
  BusDevice* find(uint64_t address, size_t size, uint64_t& offset,
                  Space space = Space::kMemory) const;

 private:
  struct Bar {
    Space space = Space::kMemory;
    uint32_t size_bytes = 0;  // in I/O space: the number of ports
    BusDevice* device = nullptr;
    Moved moved;
    std::atomic<uint64_t> base = 0;  // 0 if the BAR is not decoded
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
  // Where the next capability's offset must be written.
  uint8_t last_capability_ = PCI_CAPABILITY_LIST;
  uint8_t next_capability_ = 0x40;
  uint8_t msix_ = 0;  // offset of the MSI-X capability; 0: none
  uint8_t access_window_ = 0;
  BusDevice* access_device_ = nullptr;
  BusMasterChanged bus_master_changed_;
  bool bus_master_ = true;  // the value last reported to bus_master_changed_

  // The guest-visible state.
  std::array<std::byte, kConfigBytes> config_{};
  std::array<std::byte, kConfigBytes> writable_{};
};

}  // namespace wick::devices
