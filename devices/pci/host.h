// The PCI host bridge: bus 0 with up to 31 more slots. Each slot in use has function 0, and may
// have further functions without BARs. The bridge decodes accesses to their configuration spaces,
// through ports and through memory (ECAM), and accesses to their BARs in a window of addresses and
// a window of ports.
//
// Thread rule: attach() and attach_further() are called before the first vCPU runs, plug() and
// unplug() while all vCPUs are stopped, list() on the main loop's thread, everything else by any
// vCPU. One mutex guards all configuration spaces; an access to a BAR takes no lock.
//
// Specification: PCI Local Bus 3.0, 3.2.2.3.2 (ports); PCI Express 5.0, 7.2.2
// (ECAM).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/bus.h"
#include "base/mutex.h"
#include "base/result.h"
#include "devices/pci/function.h"

namespace wick::devices {

class PciHost {
 public:
  static constexpr uint64_t kPorts = 8;  // the ports 0xcf8 to 0xcff
  static constexpr size_t kSlots = 32;
  static constexpr uint64_t kEcamBytes = 1 << 20;  // the size for one bus

  // kI440fx is the bridge by which SeaBIOS knows QEMU's machine. Its PAM registers (Intel 82441FX,
  // 3.2.18) are stored and have no effect: the RAM behind them can always be written.
  enum class Identity { kGeneric, kI440fx };

  // `window` is the range of memory BARs, `io_window` that of I/O BARs, which may be
  // empty. `reset` is called when the guest requests a reset at port 0xcf9.
  PciHost(const Bus::Range& window, std::function<void()> reset, const Bus::Range& io_window = {},
          Identity identity = Identity::kGeneric);

  // Puts a function into a slot and assigns addresses to its BARs. The function must outlive the
  // bridge. `interrupt_line` is the initial value of the function's Interrupt Line register, for
  // systems without ACPI.
  Result<void> attach(uint8_t slot, PciFunction& function, uint8_t interrupt_line);

  // Adds function `number`, 1 to 7, of a slot. The function has no BARs, and must outlive the
  // bridge. Software finds the function by probing this number, which most software does only if
  // function 0 announces further functions.
  Result<void> attach_further(uint8_t slot, uint8_t number, PciFunction& function);
  // Returns function 0 of slot 0, the bridge itself.
  PciFunction& bridge() { return bridge_; }

  // Puts a function into a slot while the guest runs. The guest assigns the addresses of its BARs.
  Result<void> plug(uint8_t slot, PciFunction& function, uint8_t interrupt_line);
  // Empties the slot. Afterwards the function may be destroyed.
  void unplug(uint8_t slot);

  // Function 0 of a slot in use. Slot 0 has the bridge itself.
  struct Slot {
    uint8_t slot = 0;
    PciFunction::Description function;
  };
  // Describes the slots in use. Called on the main loop's thread, which must not wait for the lock,
  // because a vCPU that holds it may wait for the main loop. If the lock is taken, returns the
  // result of the call before.
  std::vector<Slot> list() EXCLUDES(mutex_);

  BusDevice& ports() { return ports_; }
  BusDevice& ecam() { return ecam_; }
  BusDevice& window() { return window_; }  // offset 0 is the window's start
  BusDevice& io_window() { return io_window_; }

 private:
  struct Ports final : BusDevice {
    explicit Ports(PciHost& bridge) : host(bridge) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    PciHost& host;
    uint32_t address GUARDED_BY(host.mutex_) = 0;  // the register at 0xcf8
  };
  struct Ecam final : BusDevice {
    explicit Ecam(PciHost& bridge) : host(bridge) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    PciHost& host;
  };
  struct Window final : BusDevice {
    Window(PciHost& bridge, PciFunction::Space of, const Bus::Range& where)
        : host(bridge), space(of), range(where) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    BusDevice* find(uint64_t offset, size_t size, uint64_t& there) const;
    PciHost& host;
    const PciFunction::Space space;
    const Bus::Range range;
  };

  // Returns the function with this bus, device and function number, or nullptr. The
  // numbers are bits 8 to 23 of CONFIG_ADDRESS and bits 12 to 27 of an ECAM address.
  PciFunction* at(uint32_t bus_device_function) REQUIRES(mutex_);
  void read_config(PciFunction* function, uint64_t offset, std::span<std::byte> data)
      REQUIRES(mutex_);

  const std::function<void()> reset_;
  PciFunction bridge_;
  uint64_t next_bar_;
  uint64_t next_io_bar_;
  std::array<PciFunction*, kSlots> functions_{};
  struct Further {
    uint32_t device_function = 0;  // slot << 3 | number
    PciFunction* function = nullptr;
  };
  std::vector<Further> further_;
  Ports ports_{*this};
  Ecam ecam_{*this};
  Window window_;
  Window io_window_;
  Mutex mutex_;
  std::vector<Slot> listed_;  // the result of the last list(); owned by the main loop
};

}  // namespace wick::devices
