// The kernel inside a 64-bit bzImage. It is the bzImage's payload, compressed: an ELF file,
// followed by a list of relocations if the kernel can randomize its addresses (KASLR). wick does
// the work of the bzImage's own code, but faster: it unpacks the kernel and starts it directly.
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

// Host memory for temporary data. It has huge pages, if the host offers them, and is zero at first.
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
  // The decompressed payload: memory with the result of a decompression, or a file of the kernel
  // cache.
  using Data = std::variant<HostBuffer, InputFile>;

  // Reads the structure of `data`. Returns nullopt if `data` are not what Linux's build makes, so
  // that the bzImage's own code should unpack them. `start` is the address for which the kernel was
  // linked (pref_address of the setup header). `name` is for messages.
  static Result<std::optional<UnpackedKernel>> parse(Data data, uint64_t start,
                                                     const std::string& name);

  // Returns the number of bytes that the kernel occupies from its start, its bss included.
  uint64_t memory_bytes() const { return memory_bytes_; }
  // Returns the size of the unpacked payload in bytes.
  uint64_t size_bytes() const;
  // Returns false if the kernel has no relocations, so that its virtual addresses are fixed.
  bool can_slide() const { return !relocations_.empty(); }
  const Data& data() const { return data_; }

  // Copies the segments to `start`, adds `slide` to the virtual addresses in them, and returns the
  // address of the 64-bit entry. The guest's memory must be zeroed, since the bss is not written.
  // Fails if a relocation lies outside of the kernel, which means that the cache is damaged.
  Result<GuestAddress> load(const GuestMemory& memory, GuestAddress start, uint64_t slide) const;

 private:
  UnpackedKernel(Data data, std::string name) : data_(std::move(data)), name_(std::move(name)) {}

  // The three relocation lists that follow the unpacked kernel, in the order in which Linux's
  // handle_relocations() applies them: from the end backwards.
  struct Relocations {
    std::span<const uint32_t> add_32bit;
    std::span<const uint32_t> subtract_32bit;  // addresses of per-CPU data; empty since Linux 6.15
    std::span<const uint32_t> add_64bit;
  };

  Result<void> read(uint64_t offset, std::span<std::byte> to) const;
  Result<bool> read_segments(uint64_t start);
  Result<bool> read_relocations(uint64_t offset);
  std::optional<Relocations> split_relocations() const;
  bool relocations_are_inside() const;

  Data data_;
  std::string name_;
  std::vector<Elf64_Phdr> segments_;  // the segments to load
  std::vector<uint32_t> relocations_;
  uint64_t start_ = 0;
  uint64_t memory_bytes_ = 0;
  uint64_t entry_offset_ = 0;  // offset of the 64-bit entry from start_
};

}  // namespace wick::boot
