// The vmcoreinfo note: an ELF note in the guest's memory with properties of its kernel, which
// debuggers need to find the kernel's structures (crash, drgn). The guest gives its address
// through the fw_cfg file etc/vmcoreinfo (devices/fw_cfg.h).
//
// Thread rule: any thread, while the guest does not run. A pure function of the guest's memory,
// which is hostile.
// Specification: QEMU, docs/specs/vmcoreinfo.rst; the note's format: ELF-64 Object File Format
// 1.5, "Note Section"; its content: Linux, Documentation/admin-guide/kdump/vmcoreinfo.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::debug {

constexpr uint32_t kMaxGuestNoteBytes = 1 << 20;

// An ELF note, header first; name and description are padded to four bytes and lie within it.
class GuestNote {
 public:
  // Reads the note that `written`, the content of etc/vmcoreinfo, points to. nullopt: the guest
  // has given none. An error names what is wrong with it.
  static Result<std::optional<GuestNote>> read(const GuestMemory& memory,
                                               std::span<const std::byte> written);

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view name() const;  // without its NUL
  std::string_view description() const;
  size_t description_offset() const { return description_offset_; }

  // The value of a line KEY=VALUE, of a note with the name VMCOREINFO.
  std::optional<std::string_view> value(std::string_view key) const;
  // By how much the kernel's physical addresses exceed those it was linked for.
  std::optional<int64_t> phys_base() const;

 private:
  GuestNote() = default;
  std::vector<std::byte> bytes_;
  size_t name_bytes_ = 0;
  size_t description_offset_ = 0;
  size_t description_bytes_ = 0;
};

}  // namespace wick::debug
