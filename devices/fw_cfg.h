// The firmware configuration device: named blobs that a guest's firmware and kernel read, and a
// few that they may write. Linux's driver qemu_fw_cfg finds it in ACPI as QEMU0002. Its ports,
// relative to the first one:
//
//   0   selector, 16 bits, write only
//   1   data, 8 bits: the next byte of the selected item
//   4   address of a DMA request, 64 bits, big-endian; writing the low half starts the request
//
// Thread rule: the add functions are called before the first vCPU runs. Afterwards any vCPU thread
// accesses the registers, and any thread calls contents(), reset() and state(); locks itself. A DMA
// request is finished when the access that started it returns, and holds the lock until then.
// on_written is called on the vCPU's thread, without the lock.
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
  static constexpr uint16_t kPort = 0x510;  // the first port on a PC
  static constexpr uint64_t kPorts = 12;
  static constexpr size_t kMaxFiles = 256;
  static constexpr uint32_t kMaxWritableBytes = 64 << 10;

  struct State {
    uint16_t key = FW_CFG_SIGNATURE;
    uint32_t offset_bytes = 0;  // in the selected item; at most its size
    uint64_t dma_address = 0;   // the high half, until the guest writes the low half
    std::map<uint16_t, std::vector<std::byte>> written = {};  // the writable items, by key
    bool operator==(const State&) const = default;
  };

  // Copies the bytes of an item from `offset_bytes` on; called with the lock held. The range lies
  // within the item.
  using Reader = std::function<void(uint64_t offset_bytes, std::span<std::byte> to)>;

  struct Writing {
    // True if a write must cover the whole item; any other write is refused.
    bool whole_only = false;
    // Called after each write with the content of the whole item.
    std::function<void(std::span<const std::byte> content)> on_written = {};
  };

  // `memory` must outlive the device.
  explicit FwCfg(const GuestMemory& memory);

  // Adds a file to the directory. Fails if the name is empty, already used, longer than 55
  // characters, or contains other characters than printable ASCII without blanks, and if there are
  // kMaxFiles files.
  Result<void> add(const std::string& name, std::vector<std::byte> content);
  // Adds a large file: `reader` is called when the guest reads the file.
  Result<void> add(const std::string& name, uint32_t size_bytes, Reader reader);
  // Adds a file that the guest may write by DMA, at most kMaxWritableBytes long. Its size is fixed.
  Result<void> add_writable(const std::string& name, std::vector<std::byte> content,
                            Writing writing);
  // Adds the file FW_CFG_VMCOREINFO_FILENAME, in which a guest gives the address of its vmcoreinfo
  // (QEMU, docs/specs/vmcoreinfo.rst). `content` is what the guest had written to the file before a
  // sleep; empty if nothing.
  Result<void> add_vmcoreinfo(std::vector<std::byte> content = {});
  // Sets an item that has a fixed key instead of a name, below FW_CFG_FILE_FIRST or with
  // FW_CFG_ARCH_LOCAL: FW_CFG_NB_CPUS, FW_CFG_KERNEL_DATA, ...
  Result<void> add_item(uint16_t key, std::vector<std::byte> content);
  Result<void> add_item(uint16_t key, uint32_t size_bytes, Reader reader);

  // Returns the present content of a file; empty if there is no such file, or if a Reader gives its
  // content.
  std::vector<std::byte> contents(std::string_view name) const;

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  // Called when the machine is reset: resets the registers, and restores the initial content of the
  // writable items.
  void reset();
  State state() const;

 private:
  struct Item {
    uint32_t size_bytes = 0;
    std::vector<std::byte> bytes = {};    // the content, unless `reader` gives it
    std::vector<std::byte> initial = {};  // of a writable item: the content at a reset
    Reader reader = {};
    bool writable = false;
    Writing writing = {};
  };
  // A write of the guest that must still be reported to on_written.
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
  std::vector<std::string> names_ GUARDED_BY(mutex_);  // file names, in the order of their keys
  uint16_t key_ GUARDED_BY(mutex_) = FW_CFG_SIGNATURE;
  uint32_t offset_bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t dma_address_ GUARDED_BY(mutex_) = 0;
};

}  // namespace wick::devices
