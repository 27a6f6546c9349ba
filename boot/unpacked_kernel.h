// The kernel inside a 64-bit bzImage. The bzImage has it compressed, as its payload: an ELF file,
// and behind it, if the kernel can randomize its addresses (KASLR), a list of relocations.
// wick unpacks it as the bzImage's own code would, which is quicker than that code, and starts
// it directly.
//
// Specification: Linux, arch/x86/boot/compressed/misc.c (extract_kernel, parse_elf,
// handle_relocations) and arch/x86/tools/relocs.c.
#pragma once

#include <elf.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/input_file.h"

namespace wick::boot {

// Memory of the host with huge pages, as far as the host has some. Reads as zeroes at first.
class HostBuffer {
 public:
  static Result<HostBuffer> create(size_t size_bytes);
  HostBuffer(HostBuffer&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  HostBuffer& operator=(HostBuffer&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~HostBuffer();

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit HostBuffer(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

class UnpackedKernel {
 public:
  // The decompressed payload: fresh, or a file of the kernel cache.
  using Data = std::variant<HostBuffer, InputFile>;

  // Reads the structure of `data`. nullopt: it is not what Linux's build makes, so the bzImage's
  // own code should unpack it. `start` is the address for which the kernel was linked
  // (pref_address of the setup header). `name` is for messages.
  static Result<std::optional<UnpackedKernel>> parse(Data data, uint64_t start,
                                                     const std::string& name);

  // The bytes of memory that the kernel occupies from its start, its bss included.
  uint64_t memory_bytes() const { return memory_bytes_; }
  // The bytes of the unpacked payload.
  uint64_t size_bytes() const;
  // False: it has no relocations, so its virtual addresses are fixed.
  bool can_slide() const { return !relocations_.empty(); }
  const Data& data() const { return data_; }

  // Copies the segments to `start`, adds `slide` to the virtual addresses in them, and returns
  // the address of the 64-bit entry. The guest's memory must be zeroed, since the bss is not
  // written. Fails if the data lie (a damaged cache).
  Result<GuestAddress> load(const GuestMemory& memory, GuestAddress start, uint64_t slide) const;

 private:
  UnpackedKernel(Data data, std::string name) : data_(std::move(data)), name_(std::move(name)) {}

  // The words of the list, from its end, as handle_relocations() reads it.
  struct Relocations {
    std::span<const uint32_t> add_32bit;
    std::span<const uint32_t> subtract_32bit;  // of per-CPU data, before Linux 6.15
    std::span<const uint32_t> add_64bit;
  };

  Result<void> read(uint64_t offset, std::span<std::byte> to) const;
  Result<bool> read_segments(uint64_t start);
  Result<bool> read_relocations(uint64_t offset);
  std::optional<Relocations> split_relocations() const;
  bool relocations_are_inside() const;

  Data data_;
  std::string name_;
  std::vector<Elf64_Phdr> segments_;  // to load
  std::vector<uint32_t> relocations_;
  uint64_t start_ = 0;
  uint64_t memory_bytes_ = 0;
  uint64_t entry_offset_ = 0;  // from start_
};

}  // namespace wick::boot
