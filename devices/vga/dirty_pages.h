// Which pages of the video memory the guest has written directly, without an exit to wick.
//
// vmm/ implements this with KVM's dirty log of the slot at BAR 0. After the slot has been mapped at
// another address, take() must report all pages, so that no earlier write is lost.
//
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <span>

namespace wick::devices {

class DirtyPages {
 public:
  static constexpr uint64_t kPageBytes = 4096;

  virtual ~DirtyPages() = default;
  // Starts or ends the logging. Pages that were written before it starts need not be reported.
  virtual void set_logging(bool on) = 0;
  // Sets the bits of the pages written since the call before: bit n % 64 of bits[n / 64] for page
  // n. `bits` has a bit for each page of the video memory. Other bits stay as they are.
  virtual void take(std::span<uint64_t> bits) = 0;
};

}  // namespace wick::devices
