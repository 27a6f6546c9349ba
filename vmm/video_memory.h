// The memory of the graphics card: a KVM memory slot behind a BAR. While somebody looks at the
// screen, KVM logs which pages the guest writes.
//
// Thread rule: any thread; locks itself.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "base/mutex.h"
#include "base/result.h"
#include "devices/vga/dirty_pages.h"
#include "vmm/vm.h"

namespace wick::vmm {

class VideoMemory final : public devices::DirtyPages {
 public:
  // `vm` must outlive this object.
  static Result<std::unique_ptr<VideoMemory>> create(const Vm& vm, uint64_t size_bytes);
  ~VideoMemory() override;

  std::span<std::byte> bytes() const { return {region().host, region().size_bytes}; }
  // Maps the memory at another guest address; 0 unmaps it.
  void move(uint64_t to);

  void set_logging(bool logging) override;
  void take(std::span<uint64_t> bits) override;

 private:
  VideoMemory(const Vm& vm, GuestMemory memory);
  const GuestMemory::Region& region() const { return memory_.regions().front(); }
  void map() REQUIRES(mutex_);
  void collect() REQUIRES(mutex_);

  const Vm& vm_;
  const GuestMemory memory_;

  Mutex mutex_;
  uint64_t address_ GUARDED_BY(mutex_) = 0;
  bool logging_ GUARDED_BY(mutex_) = false;
  std::vector<uint64_t> dirty_ GUARDED_BY(mutex_);  // written pages that take() has not returned
};

}  // namespace wick::vmm
