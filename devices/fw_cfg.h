// The firmware configuration device: named blobs that a guest's firmware and kernel read, and a
// few that they may write. Linux's driver qemu_fw_cfg finds it in ACPI as QEMU0002. Its ports,
// relative to the first one:
//
//   0   selector, 16 bits, write only
//   1   data, 8 bits: the next byte of the selected item
//   4   address of a DMA request, 64 bits, big-endian; writing the low half starts the request
//
// Thread rule: the add functions before the first vCPU runs. Then any vCPU thread accesses the
// registers, and any thread calls contents(), reset() and state(); locks itself. A request is
// finished when the access that started it returns, and holds the lock until then. on_written is
// called on the vCPU's thread, without the lock.
//
// Specification: QEMU, docs/specs/fw_cfg.rst.
#pragma once

#include <linux/qemu_fw_cfg.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bus.h"
#include "base/guest_memory.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/result.h"

namespace wick::devices {

class FwCfg final : public BusDevice {
 public:
  static constexpr uint16_t kPort = 0x510;  // of a PC
  static constexpr uint64_t kPorts = 12;
  static constexpr size_t kMaxFiles = 256;
  static constexpr uint32_t kMaxWritableBytes = 64 << 10;

  struct State {
    uint16_t key = FW_CFG_SIGNATURE;
    uint32_t offset_bytes = 0;  // in the item, at most its size
    uint64_t dma_address = 0;   // its high half, until the low half is written
    std::map<uint16_t, std::vector<std::byte>> written = {};  // writable items by key
    bool operator==(const State&) const = default;
  };

  // Copies the bytes of an item from `offset_bytes` on; called with the lock held. The range lies
  // within the item.
  using Reader = std::function<void(uint64_t offset_bytes, std::span<std::byte> to)>;

  struct Writing {
    // Refuses a write that does not cover the item.
    bool whole_only = false;
    // Called after each write with the content of the whole item.
    std::function<void(std::span<const std::byte> content)> on_written = {};
  };

  // `memory` must outlive the device.
  explicit FwCfg(const GuestMemory& memory);

  // Adds a file to the directory. Fails for a name that is empty, used, not printable ASCII or
  // longer than 55 characters, and if there are kMaxFiles.
  Result<void> add(const std::string& name, std::vector<std::byte> content);
  // For large files: `reader` gives the content when it is asked for.
  Result<void> add(const std::string& name, uint32_t size_bytes, Reader reader);
  // A file that the guest may write by DMA, at most kMaxWritableBytes long. Its size is fixed.
  Result<void> add_writable(const std::string& name, std::vector<std::byte> content,
                            Writing writing);
  // Adds the file FW_CFG_VMCOREINFO_FILENAME, in which a guest gives the address of its vmcoreinfo
  // (QEMU, docs/specs/vmcoreinfo.rst). `content` is what it has given before a sleep; empty: none.
  Result<void> add_vmcoreinfo(std::vector<std::byte> content = {});
  // Sets an item that has a fixed key instead of a name, below FW_CFG_FILE_FIRST or with
  // FW_CFG_ARCH_LOCAL: FW_CFG_NB_CPUS, FW_CFG_KERNEL_DATA, ...
  Result<void> add_item(uint16_t key, std::vector<std::byte> content);
  Result<void> add_item(uint16_t key, uint32_t size_bytes, Reader reader);

  // The present content of a file that was added with its bytes; empty if there is none.
  std::vector<std::byte> contents(std::string_view name) const;

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  // As a reset of the machine: the registers, and the items that the guest has written.
  void reset();
  State state() const;

 private:
  struct Item {
    uint32_t size_bytes = 0;
    std::vector<std::byte> bytes = {};    // unless `reader`
    std::vector<std::byte> initial = {};  // of a writable item
    Reader reader = {};
    bool writable = false;
    Writing writing = {};
  };
  // A write of the guest that on_written has not been told of.
  struct Written {
    const Item* item = nullptr;
    std::vector<std::byte> content = {};
  };

  Result<void> add_file(const std::string& name, Item item);
  Result<void> add_fixed(uint16_t key, Item item);
  void update_directory() REQUIRES(mutex_);

  Item* selected() REQUIRES(mutex_);
  void select(uint16_t key) REQUIRES(mutex_);
  std::byte next_byte() REQUIRES(mutex_);
  static void copy_out(const Item& item, uint32_t offset_bytes, std::span<std::byte> to);
  Written transfer(GuestAddress request) REQUIRES(mutex_);
  bool read_to_guest(GuestAddress to, uint64_t length_bytes) REQUIRES(mutex_);
  bool write_from_guest(GuestAddress from, uint64_t length_bytes) REQUIRES(mutex_);
  void skip(uint64_t length_bytes) REQUIRES(mutex_);

  const GuestMemory& memory_;
  RateLimit warning_;

  mutable Mutex mutex_;
  // Items do not move or change their size after the first vCPU runs.
  std::map<uint16_t, Item> items_ GUARDED_BY(mutex_);
  std::vector<std::string> names_ GUARDED_BY(mutex_);  // key FW_CFG_FILE_FIRST first
  uint16_t key_ GUARDED_BY(mutex_) = FW_CFG_SIGNATURE;
  uint32_t offset_bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t dma_address_ GUARDED_BY(mutex_) = 0;
};

}  // namespace wick::devices
