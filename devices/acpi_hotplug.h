// The registers by which the guest's AML (boot/dsdt.cc) learns which PCI slots have a new device,
// learns which devices the host wants back, and ejects devices. Each register has one bit per slot
// of PCI bus 0:
//
//   0  UP     read: the slots that got a device since the last read; a read clears it
//   4  DOWN   read: the slots whose removal was requested since the last read; a read clears it
//   8  EJECT  write: the guest has released the devices in these slots
//
// Only aligned 32-bit accesses have an effect. All others read zeroes and write nothing.
//
// A write of EJECT has an effect only on pluggable slots that have a device. The host need not have
// asked for the removal, because a guest may also eject a device by itself. Each ejection is
// reported to the host once; further writes for the slot have no effect until the host has called
// removed().
//
// Thread rule: any vCPU thread accesses the registers, any thread calls the functions; locks
// itself. The actions are called without the lock, `eject` on the vCPU's thread.
//
// Specification: wick's own. QEMU's interface (docs/specs/acpi_pci_hotplug) has the same three
// registers and more.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/bus.h"
#include "base/mutex.h"

namespace wick::devices {

class AcpiHotplug final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 12;
  static constexpr uint8_t kSlots = 32;

  // All fields have a bit per slot.
  struct State {
    uint32_t up = 0;
    uint32_t down = 0;
    uint32_t occupied = 0;   // pluggable slots that have a device
    uint32_t requested = 0;  // removal was requested, and removed() was not called yet
    uint32_t ejected = 0;    // the guest has ejected the device, and removed() was not called yet
    bool operator==(const State&) const = default;
  };
  struct Actions {
    std::function<void()> raise;                // sends the guest an event (a GPE)
    std::function<void(uint32_t slots)> eject;  // reports slots that the guest has ejected
  };

  // `pluggable` has a bit for each slot whose device can be added and removed.
  AcpiHotplug(uint32_t pluggable, Actions actions)
      : pluggable_(pluggable), actions_(std::move(actions)) {}

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  uint32_t pluggable() const { return pluggable_; }
  bool pluggable(uint8_t slot) const { return (pluggable_ & bit(slot)) != 0; }

  // Records that the slot has a device from the start; the guest is told nothing. This function and
  // those below ignore slots that are not pluggable.
  void occupy(uint8_t slot);
  // Records that the slot has got a device, and tells the guest.
  void plugged(uint8_t slot);
  // Asks the guest to release the device. May be repeated.
  void request_removal(uint8_t slot);
  // Records that the slot has no device any more.
  void removed(uint8_t slot);
  // Continues after S3. `state` is that of the registers before S3: the guest is told of the events
  // that it has not read. Events of slots without a device are dropped.
  void continue_from(const State& state);

  State state() const;

 private:
  static uint32_t bit(uint8_t slot) { return slot < kSlots ? 1u << slot : 0; }

  const uint32_t pluggable_;
  const Actions actions_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
};

}  // namespace wick::devices
