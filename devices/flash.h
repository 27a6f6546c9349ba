// A chip of NOR flash memory, in which UEFI keeps its variables. KVM serves the guest's reads of
// the memory; only writes, which are commands, come here. After a command the chip serves the
// reads, too, and returns its status instead of the memory, until the guest selects the memory
// again.
//
// Thread rule: any vCPU thread; locks itself. The wires are called with the lock held.
//
// Specification: Intel 28F160, "Common Flash Memory Interface" command set 0001, the commands that
// edk2 uses (OvmfPkg/QemuFlashFvbServicesRuntimeDxe/QemuFlash.c); QEMU, hw/block/pflash_cfi01.c,
// for what real chips leave open. There is no write buffer and no protection of blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/bus.h"
#include "base/mutex.h"

namespace wick::devices {

class Flash final : public BusDevice {
 public:
  static constexpr size_t kBlockBytes = 4096;
  static constexpr uint8_t kReady = 0x80;          // status bit: no command runs
  static constexpr uint8_t kSequenceError = 0x30;  // status bits: a command was wrong

  struct Wires {
    // Sets who serves the guest's reads: KVM, from the memory (true), or the chip (false). Before
    // the first call KVM serves them.
    std::function<void(bool readable)> show = [](bool) {};
    // Reports a range of the memory that the guest has changed.
    std::function<void(size_t offset, size_t size)> changed = [](size_t, size_t) {};
  };

  // The size of `memory` is a multiple of kBlockBytes. `memory` must outlive the chip.
  Flash(std::span<std::byte> memory, Wires wires);
  // Reports the changes that have not been reported yet.
  ~Flash() override;

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  enum class Mode : uint8_t {
    kMemory,  // reads return the memory; in other modes, the status or the identifier
    kStatus,
    kIdentifier,
    kProgram,  // the next write is data
    kErase,    // the next write confirms the command
  };
  struct State {
    Mode mode = Mode::kMemory;
    uint8_t status = kReady;
    // The range whose changes have not been reported yet; empty if begin == end.
    size_t changed_begin = 0;
    size_t changed_end = 0;
  };
  State state();

 private:
  void command(uint8_t code) REQUIRES(mutex_);
  void program(uint64_t offset, std::span<const std::byte> data) REQUIRES(mutex_);
  void erase(uint64_t offset) REQUIRES(mutex_);
  void enter(Mode mode) REQUIRES(mutex_);
  void note_change(size_t begin, size_t end) REQUIRES(mutex_);
  void report_change() REQUIRES(mutex_);

  const std::span<std::byte> memory_;
  const Wires wires_;

  Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
};

}  // namespace wick::devices
