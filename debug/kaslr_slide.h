// Finds the KASLR offset: by how much the addresses of a running kernel exceed those in its
// vmlinux. SYSCALL jumps to the address in the MSR IA32_LSTAR, which is that of entry_SYSCALL_64, a
// symbol of the vmlinux.
//
// Thread rule: any thread.
// Specification: System V ABI, "ELF-64 Object File Format"; Intel SDM 4 (IA32_LSTAR); Linux,
// arch/x86/kernel/cpu/common.c, syscall_init().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wick::debug {

// An ELF file, whose content is not trusted. `name` is for messages.
struct SymbolFile {
  std::string name;
  uint64_t size_bytes = 0;
  // Reads a range within the file. Returns false if that fails.
  std::function<bool(uint64_t offset, std::span<std::byte> to)> read;
};

// Returns the value of a symbol in the symbol table of an ELF file for x86-64.
Result<uint64_t> find_symbol(const SymbolFile& file, std::string_view symbol);

// The addresses in a vmlinux that are needed to find the offset.
struct LinkedKernel {
  uint64_t syscall_entry = 0;    // the address of entry_SYSCALL_64
  bool per_cpu_at_zero = false;  // per-CPU symbols are offsets that do not move (before Linux 6.15)
};
Result<LinkedKernel> read_linked_kernel(const std::string& vmlinux);

// Returns the KASLR offset. `linked` is the address of entry_SYSCALL_64 in the vmlinux; `lstar` is
// the value of IA32_LSTAR. Fails if the running kernel cannot be that of the vmlinux.
Result<uint64_t> kaslr_slide(uint64_t linked, uint64_t lstar);

}  // namespace wick::debug
