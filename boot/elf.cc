#include "boot/elf.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "boot/cmdline.h"
#include "boot/elf_file.h"
#include "boot/initrd.h"
#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr uint64_t kMaxNotesBytes = 64 << 10;
constexpr uint32_t kXenPhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
// PVH has no field for the maximum length of the command line. Linux reads COMMAND_LINE_SIZE
// bytes, NUL included, and silently drops the rest.
constexpr uint64_t kLinuxCommandLineBytes = 2047;

// Returns the physical address of the entry, if the notes of this segment have it.
std::optional<uint64_t> find_entry(std::span<const std::byte> notes, uint64_t alignment) {
  // Takes `size` bytes into `taken` and skips their padding. Returns false if fewer are left.
  const auto take = [&](uint64_t size, std::span<const std::byte>& taken) {
    if (size > notes.size()) return false;
    taken = notes.first(size);
    notes = notes.subspan(std::min<uint64_t>(align_up(size, alignment), notes.size()));
    return true;
  };
  std::span<const std::byte> header, name, description;
  while (take(sizeof(Elf64_Nhdr), header)) {
    const auto note = load_le<Elf64_Nhdr>(header);
    if (!take(note.n_namesz, name) || !take(note.n_descsz, description)) break;
    const std::string_view owner(reinterpret_cast<const char*>(name.data()), name.size());
    // Linux writes the entry with the width of its pointers, Xen with 4 bytes.
    if (note.n_type == kXenPhys32Entry && owner == std::string_view("Xen\0", 4) &&
        (description.size() == 4 || description.size() == 8))
      return load_le<uint64_t>(description);
  }
  return std::nullopt;
}

// Returns the entry point from the PVH note (XEN_ELFNOTE_PHYS32_ENTRY); nullopt if there is no
// note.
Result<std::optional<uint64_t>> read_entry(const InputFile& file,
                                           const std::vector<Elf64_Phdr>& segments) {
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_NOTE) continue;
    TRY(check_in_file(file, segment));
    std::vector<std::byte> notes(std::min<uint64_t>(segment.p_filesz, kMaxNotesBytes));
    TRY(file.read(segment.p_offset, notes));
    if (const auto entry = find_entry(notes, segment.p_align == 8 ? 8 : 4)) return entry;
  }
  return std::nullopt;
}

Result<void> write_start_info(const GuestMemory& memory, GuestMemory::Range initrd,
                              GuestAddress rsdp) {
  // The hvm_start_info, its module and its memory map must fit into one page, which ends at kGdt.
  constexpr GuestAddress kModules = kBootInfo + 64;
  constexpr GuestAddress kMap = kModules + sizeof(HvmModule);

  HvmStartInfo info;
  info.cmdline = kCommandLine.value;
  info.rsdp = rsdp.value;
  if (initrd.size_bytes > 0) {
    info.module_count = 1;
    info.modules = kModules.value;
    TRY(memory.write(kModules, HvmModule{initrd.start.value, initrd.size_bytes, 0, 0}));
  }
  const auto map = memory_map(memory);
  if (map.size() > (kGdt.value - kMap.value) / sizeof(HvmMemoryMapEntry))
    return fail("guest memory: {} ranges do not fit beside the hvm_start_info", map.size());
  info.memory_map = kMap.value;
  for (const MemoryMapEntry& entry : map)
    TRY(memory.write(
        kMap + info.memory_map_count++ * sizeof(HvmMemoryMapEntry),
        HvmMemoryMapEntry{entry.start, entry.size_bytes, static_cast<uint32_t>(entry.type), 0}));
  return memory.write(kBootInfo, info);
}

}  // namespace

bool has_pvh_entry(const InputFile& file) {
  const auto elf = read_elf_file(file);
  if (!elf) return false;
  const auto entry = read_entry(file, elf->segments);
  return entry && entry->has_value();
}

Result<BootImage> load_elf(const GuestMemory& memory, const BootFiles& files) {
  TRY(check_low_memory(memory));
  const InputFile& file = files.kernel;
  const ElfFile elf = TRY(read_elf_file(file));
  const auto found = TRY(read_entry(file, elf.segments));
  if (!found)
    return with_hint(
        fail("{}: an ELF file without a PVH entry (Xen note {}) and without a Multiboot header",
             file.name(), kXenPhys32Entry),
        "build the kernel with CONFIG_PVH=y, or boot its bzImage");
  const uint64_t entry = *found;
  const auto segments = TRY(loadable_segments(memory, file, elf.segments));
  const bool entry_is_loaded = std::ranges::any_of(segments, [&](const Elf64_Phdr& segment) {
    return entry >= segment.p_paddr && entry - segment.p_paddr < segment.p_filesz;
  });
  if (!entry_is_loaded) return fail("{}: the PVH entry {:#x} is in no segment", file.name(), entry);

  BootImage loaded;
  loaded.kernel_range = range_of(segments);
  if (files.initrd) {
    const uint64_t size = files.initrd->size_bytes();
    const auto place = place_initrd(memory, size, kAddressableEnd, loaded.kernel_range);
    const uint64_t needed = loaded.kernel_range.start.value + loaded.kernel_range.size_bytes + size;
    if (!place)
      return with_hint(
          fail("{}: {} MiB and a kernel of {} MiB do not fit into the guest's {} MiB of memory",
               files.initrd->name(), mebibytes(size), mebibytes(loaded.kernel_range.size_bytes),
               mebibytes(memory.size_bytes())),
          needed <= kLowRamEnd
              ? fmt::format("give at least {} MiB with --memory", mebibytes(needed))
              : fmt::format("use a smaller initrd: with a PVH entry it must lie below {} MiB",
                            mebibytes(kLowRamEnd)));
    loaded.initrd_range = *place;
    TRY(load_initrd(memory, *files.initrd, *place));
  }
  TRY(write_command_line(memory, files.cmdline, kLinuxCommandLineBytes));

  TRY(load_segments(memory, file, segments));
  TRY(write_start_info(memory, loaded.initrd_range, files.rsdp));
  loaded.cpu = TRY(pvh_entry(memory, {entry}, kBootInfo));
  loaded.kernel = "ELF kernel, PVH entry";
  return loaded;
}

}  // namespace wick::boot
