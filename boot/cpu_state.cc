#include "boot/cpu_state.h"

#include <array>

#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr uint64_t kRflagsReserved = 1 << 1;  // always set
constexpr uint64_t kCr0Pe = 1 << 0;
constexpr uint64_t kCr0Et = 1 << 4;  // always set
constexpr uint64_t kCr0Pg = 1ULL << 31;
constexpr uint64_t kCr4Pae = 1 << 5;
constexpr uint64_t kCr4La57 = 1 << 12;
constexpr uint64_t kEferLme = 1 << 8;
constexpr uint64_t kEferLma = 1 << 10;

// __BOOT_CS and __BOOT_DS of the Linux boot protocol; PVH and Multiboot leave the selectors to the
// loader.
constexpr uint16_t kCodeSelector = 0x10;
constexpr uint16_t kDataSelector = 0x18;
constexpr uint16_t kTaskSelector = 0x20;

// The types of code and data have the "accessed" bit, as if the processor had loaded them.
constexpr Segment kCode64{.limit = 0xffff'ffff,
                          .selector = kCodeSelector,
                          .type = 0xb,
                          .present = 1,
                          .s = 1,
                          .l = 1,
                          .g = 1};
constexpr Segment kCode32{.limit = 0xffff'ffff,
                          .selector = kCodeSelector,
                          .type = 0xb,
                          .present = 1,
                          .db = 1,
                          .s = 1,
                          .g = 1};
constexpr Segment kData{.limit = 0xffff'ffff,
                        .selector = kDataSelector,
                        .type = 0x3,
                        .present = 1,
                        .db = 1,
                        .s = 1,
                        .g = 1};
// A busy TSS. It is never used, but VM entry requires one.
constexpr Segment kTask{.limit = 0x67, .selector = kTaskSelector, .type = 0xb, .present = 1};

// Returns the descriptor of a segment (Intel SDM 3, figure 3-8).
constexpr uint64_t descriptor(const Segment& segment) {
  const uint64_t limit = segment.g ? segment.limit >> 12 : segment.limit;
  return (limit & 0xffff) | (segment.base & 0xff'ffff) << 16 | uint64_t{segment.type} << 40 |
         uint64_t{segment.s} << 44 | uint64_t{segment.dpl} << 45 | uint64_t{segment.present} << 47 |
         (limit >> 16 & 0xf) << 48 | uint64_t{segment.l} << 53 | uint64_t{segment.db} << 54 |
         uint64_t{segment.g} << 55 | (segment.base >> 24 & 0xff) << 56;
}

static_assert(descriptor(kCode64) == 0x00af'9b00'0000'ffff);
static_assert(descriptor(kCode32) == 0x00cf'9b00'0000'ffff);
static_assert(descriptor(kData) == 0x00cf'9300'0000'ffff);

// Returns the state that all entries in protected or long mode have in common, and writes the GDT.
Result<CpuState> flat_state(const GuestMemory& memory, GuestAddress entry, const Segment& code) {
  // In long mode the descriptor of a TSS takes two slots; the upper is 0.
  const std::array<uint64_t, 6> gdt = {0, 0, descriptor(code), descriptor(kData), descriptor(kTask),
                                       0};
  TRY(memory.write(kGdt, gdt));
  CpuState state;
  state.rip = entry.value;
  state.rsp = kBootStackEnd.value;
  state.rflags = kRflagsReserved;
  state.cr0 = kCr0Pe | kCr0Et;
  state.cs = code;
  state.ds = state.es = state.fs = state.gs = state.ss = kData;
  state.tr = kTask;
  state.gdt = {kGdt.value, sizeof(gdt) - 1};
  return state;
}

constexpr uint64_t kTableBytes = 4096;
constexpr uint64_t kPresentWritable = 0x3;
using Table = std::array<uint64_t, 512>;

// Maps the first 4 GiB of memory to themselves with 2 MiB pages, which every 64-bit processor
// supports: one PML4, one page directory pointer table, four page directories.
Result<void> write_identity_map(const GuestMemory& memory) {
  constexpr uint64_t kLargePage = 1 << 7;
  constexpr uint64_t kLargePageBytes = 2 << 20;
  constexpr uint64_t kDirectories = 4;

  const GuestAddress pointers = kPageTables + kTableBytes;
  const GuestAddress directories = pointers + kTableBytes;
  TRY(memory.write(kPageTables, Table{pointers.value | kPresentWritable}));
  Table table{};
  for (uint64_t i = 0; i < kDirectories; ++i)
    table[i] = (directories + i * kTableBytes).value | kPresentWritable;
  TRY(memory.write(pointers, table));
  for (uint64_t i = 0; i < kDirectories; ++i) {
    for (uint64_t j = 0; j < table.size(); ++j)
      table[j] = (i * table.size() + j) * kLargePageBytes | kLargePage | kPresentWritable;
    TRY(memory.write(directories + i * kTableBytes, table));
  }
  return {};
}

}  // namespace

Result<CpuState> linux_64bit_entry(const GuestMemory& memory, GuestAddress entry,
                                   GuestAddress zero_page, bool five_level_paging) {
  TRY(write_identity_map(memory));
  CpuState state = TRY(flat_state(memory, entry, kCode64));
  state.rsi = zero_page.value;
  state.cr0 |= kCr0Pg;
  state.cr3 = kPageTables.value;
  state.cr4 = kCr4Pae;
  state.efer = kEferLme | kEferLma;
  if (five_level_paging) {
    TRY(memory.write(kFifthLevel, Table{kPageTables.value | kPresentWritable}));
    state.cr3 = kFifthLevel.value;
    state.cr4 |= kCr4La57;
  }
  return state;
}

Result<CpuState> linux_32bit_entry(const GuestMemory& memory, GuestAddress entry,
                                   GuestAddress zero_page) {
  CpuState state = TRY(flat_state(memory, entry, kCode32));
  state.rsi = zero_page.value;
  return state;
}

CpuState real_mode_entry(GuestAddress entry) {
  constexpr Segment kReal{.limit = 0xffff, .type = 0x3, .present = 1, .s = 1};
  CpuState state;
  state.rip = entry.value & 0xf;
  state.rflags = kRflagsReserved;
  state.cr0 = kCr0Et;
  state.ds = state.es = state.fs = state.gs = state.ss = kReal;
  state.cs = kReal;
  state.cs.type = 0xb;
  state.cs.selector = static_cast<uint16_t>(entry.value >> 4);
  state.cs.base = entry.value & ~uint64_t{0xf};
  state.tr = kTask;
  state.tr.selector = 0;
  state.gdt.limit = 0xffff;
  state.idt.limit = 0xffff;
  return state;
}

Result<CpuState> pvh_entry(const GuestMemory& memory, GuestAddress entry, GuestAddress start_info) {
  CpuState state = TRY(flat_state(memory, entry, kCode32));
  state.rbx = start_info.value;
  return state;
}

Result<CpuState> multiboot_entry(const GuestMemory& memory, GuestAddress entry, GuestAddress info,
                                 uint32_t magic) {
  CpuState state = TRY(flat_state(memory, entry, kCode32));
  state.rax = magic;
  state.rbx = info.value;
  return state;
}

}  // namespace wick::boot
