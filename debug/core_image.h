// The content of a core, and the functions that write it in each format.
//
// Thread rule: any thread, while the guest does not run.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "debug/core.h"
#include "debug/core_file.h"
#include "debug/core_notes.h"
#include "debug/vmcoreinfo.h"

namespace wick::debug {

constexpr uint64_t kCorePageBytes = 4096;

// The content of a core. Everything but the guest's memory is a copy made on the main loop.
struct CoreImage {
  const GuestMemory& memory;
  std::vector<CoreCpu> cpus;
  std::optional<GuestNote> guest_note;
  // The parts of RAM that the core contains, sorted by address.
  std::vector<GuestMemory::Region> blocks;
  bool paging = false;

  uint64_t size_bytes() const;
  const GuestNote* note() const { return guest_note ? &*guest_note : nullptr; }
};

// Counts the bytes of guest memory that were written, and reports each change.
class CoreCounter {
 public:
  explicit CoreCounter(std::function<void()> on_change) : on_change_(std::move(on_change)) {}
  void add(uint64_t bytes) {
    done_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    if (on_change_) on_change_();
  }
  uint64_t done_bytes() const { return done_bytes_.load(std::memory_order_relaxed); }

 private:
  const std::function<void()> on_change_;
  std::atomic<uint64_t> done_bytes_{0};
};

Result<void> write_elf_core(const CoreImage& image, CoreFile& file, CoreCounter& counter,
                            std::stop_token stop);
Result<void> write_kdump_core(const CoreImage& image, CoreFile& file, CoreCounter& counter);

}  // namespace wick::debug
