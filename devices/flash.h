// A chip of NOR flash memory, in which UEFI keeps its variables. While the guest reads the memory,
// KVM serves it; only writes, which are commands, come here. After a command the chip shows its
// status in place of the memory, until the guest asks for the memory again.
//
// Thread rule: any vCPU thread; locks itself. The wires are called with the lock held.
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
  static constexpr uint8_t kReady = 0x80;          // in the status
  static constexpr uint8_t kSequenceError = 0x30;  // in the status

  struct Wires {
    // The guest may read the memory without the chip (true), or must ask the chip (false). At first
    // it may read.
    std::function<void(bool readable)> show = [](bool) {};
    // The bytes that the guest has changed, which are part of the memory.
    std::function<void(size_t offset, size_t size)> changed = [](size_t, size_t) {};
  };

  // `memory` is a multiple of kBlockBytes, and must outlive the chip.
  Flash(std::span<std::byte> memory, Wires wires);
  // Reports what has changed and has not been reported.
  ~Flash() override;

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  enum class Mode : uint8_t {
    kMemory,  // reads show the memory, in all other modes the status or the identifier
    kStatus,
    kIdentifier,
    kProgram,  // the next write is data
    kErase,    // the next write confirms
  };
  struct State {
    Mode mode = Mode::kMemory;
    uint8_t status = kReady;
    // What the wires have not been told of; empty if begin == end.
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
