// The ELF format of a core: file header, program headers, notes, then the blocks of memory. Each
// block starts at a multiple of the page size in the file, so that zero pages can be holes.
#include <elf.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "debug/core_image.h"
#include "debug/page_walk.h"
#include "vmm/page_tables.h"

namespace wick::debug {

namespace {

// The amount of memory that is searched for zero pages and written between two progress reports.
constexpr uint64_t kPieceBytes = 1 << 20;

// The range in which Linux maps its image (Documentation/arch/x86/x86_64/mm.rst), with the maximum
// size that KASLR allows.
constexpr uint64_t kLinuxImage = 0xffff'ffff'8000'0000;
constexpr uint64_t kLinuxImageLast = kLinuxImage + (1 << 30) - 1;
constexpr uint64_t kMaxImageMappings = 1000;

// A block of memory, or a part of one, and its place in the file.
struct Segment {
  uint64_t linear = 0;
  uint64_t physical = 0;
  uint64_t size_bytes = 0;
  uint64_t block_offset = 0;  // offset in the file, from the start of the first block
};

std::vector<Segment> physical_segments(const CoreImage& image) {
  std::vector<Segment> segments;
  uint64_t offset = 0;
  for (const GuestMemory::Region& block : image.blocks) {
    segments.push_back({block.start.value, block.start.value, block.size_bytes, offset});
    offset += align_up(block.size_bytes, kCorePageBytes);
  }
  return segments;
}

std::vector<vmm::CpuRegisters> registers_of(const CoreImage& image) {
  std::vector<vmm::CpuRegisters> registers;
  for (const CoreCpu& cpu : image.cpus) registers.push_back(cpu.registers);
  return registers;
}

// Returns the parts of the mappings that lie in the core's blocks. The rest is left out: a mapping
// may lead to addresses without RAM.
std::vector<Segment> segments_of(const std::vector<Mapping>& mappings,
                                 const std::vector<Segment>& blocks) {
  std::vector<Segment> segments;
  for (const Mapping& mapping : mappings) {
    for (const Segment& block : blocks) {
      const uint64_t start = std::max(mapping.physical, block.physical);
      const uint64_t end =
          std::min(mapping.physical + mapping.size_bytes, block.physical + block.size_bytes);
      if (start < end)
        segments.push_back({mapping.linear + (start - mapping.physical), start, end - start,
                            block.block_offset + (start - block.physical)});
    }
  }
  return segments;
}

Result<std::vector<Segment>> mapped_segments(const CoreImage& image, std::stop_token stop) {
  auto mappings = walk_page_tables(image.memory, registers_of(image), {}, std::move(stop));
  if (!mappings && mappings.error().code == 0)
    return with_hint(failure(mappings), "leave out the paging");
  if (!mappings) return failure(mappings);
  return segments_of(*mappings, physical_segments(image));
}

// Returns the memory by physical addresses. If the guest is a Linux that has given its vmcoreinfo,
// adds the kernel's image by linear addresses, as in the kernel's /proc/vmcore; drgn needs these to
// find the page tables.
std::vector<Segment> plain_segments(const CoreImage& image, std::stop_token stop) {
  std::vector<Segment> segments = physical_segments(image);
  if (image.note() == nullptr || !image.note()->value("OSRELEASE")) return segments;
  auto mappings = walk_page_tables(
      image.memory, registers_of(image),
      {.mappings = kMaxImageMappings, .first = kLinuxImage, .last = kLinuxImageLast},
      std::move(stop));
  // If the walk fails, the linear addresses are left out; the core is complete without them.
  if (!mappings) return segments;
  const auto kernel = segments_of(*mappings, segments);
  segments.insert(segments.end(), kernel.begin(), kernel.end());
  return segments;
}

template <typename T>
void append(std::vector<std::byte>& to, const T& value) {
  const auto bytes = as_bytes(&value, sizeof(value));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

Elf64_Ehdr file_header(size_t program_headers, NoteLayout layout) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_CORE;
  header.e_machine = layout == NoteLayout::kX86_64 ? EM_X86_64 : EM_386;
  header.e_version = EV_CURRENT;
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_phoff = sizeof(Elf64_Ehdr);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = static_cast<Elf64_Half>(std::min<size_t>(program_headers, PN_XNUM));
  if (program_headers >= PN_XNUM) {
    header.e_shoff = sizeof(Elf64_Ehdr) + program_headers * sizeof(Elf64_Phdr);
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = 1;
  }
  return header;
}

// Returns everything that comes before the memory, padded to a multiple of the page size.
std::vector<std::byte> headers(const CoreImage& image, const std::vector<Segment>& segments) {
  const NoteLayout layout = layout_for(image.cpus);
  const std::vector<std::byte> notes = core_notes(image.cpus, layout, image.note());
  const size_t program_headers = 1 + segments.size();
  const Elf64_Ehdr header = file_header(program_headers, layout);
  const uint64_t notes_offset = sizeof(Elf64_Ehdr) + program_headers * sizeof(Elf64_Phdr) +
                                header.e_shnum * sizeof(Elf64_Shdr);
  const uint64_t memory_offset = align_up(notes_offset + notes.size(), kCorePageBytes);
  std::vector<std::byte> bytes;
  bytes.reserve(memory_offset);
  append(bytes, header);
  Elf64_Phdr note{};
  note.p_type = PT_NOTE;
  note.p_offset = notes_offset;
  note.p_filesz = note.p_memsz = notes.size();
  append(bytes, note);
  for (const Segment& segment : segments) {
    Elf64_Phdr load{};
    load.p_type = PT_LOAD;
    load.p_offset = memory_offset + segment.block_offset;
    load.p_vaddr = segment.linear;
    load.p_paddr = segment.physical;
    load.p_filesz = load.p_memsz = segment.size_bytes;
    append(bytes, load);
  }
  if (header.e_shnum > 0) {
    // The number of program headers does not fit into e_phnum, so the first section header has it.
    Elf64_Shdr number{};
    number.sh_info = static_cast<Elf64_Word>(program_headers);
    append(bytes, number);
  }
  bytes.insert(bytes.end(), notes.begin(), notes.end());
  bytes.resize(memory_offset);
  return bytes;
}

// Writes the pages that are not zero; each run of such pages with one call.
Result<void> write_piece(std::span<const std::byte> piece, uint64_t offset, CoreFile& file) {
  size_t at = 0;
  while (at < piece.size()) {
    size_t run = 0;
    while (at + run < piece.size()) {
      const size_t page = std::min<size_t>(kCorePageBytes, piece.size() - at - run);
      if (is_zero(piece.subspan(at + run, page))) break;
      run += page;
    }
    if (run > 0) TRY(file.write(offset + at, piece.subspan(at, run)));
    at += run + kCorePageBytes;  // skips the zero page that has ended the run
  }
  return {};
}

}  // namespace

Result<void> write_elf_core(const CoreImage& image, CoreFile& file, CoreCounter& counter,
                            std::stop_token stop) {
  const bool paging = image.paging && std::ranges::any_of(image.cpus, [](const CoreCpu& cpu) {
                        return vmm::Paging::of(cpu.registers).has_value();
                      });
  const std::vector<Segment> segments =
      paging ? TRY(mapped_segments(image, stop)) : plain_segments(image, stop);
  const std::vector<std::byte> head = headers(image, segments);
  TRY(file.write(0, head));
  uint64_t offset = head.size();
  for (const GuestMemory::Region& block : image.blocks) {
    for (uint64_t at = 0; at < block.size_bytes; at += kPieceBytes) {
      const uint64_t size = std::min(kPieceBytes, block.size_bytes - at);
      if (stop.stop_requested()) return fail_errno(ECANCELED, "{}", file.name());
      TRY(write_piece({block.host + at, size}, offset + at, file));
      counter.add(size);
    }
    offset += align_up(block.size_bytes, kCorePageBytes);
  }
  return file.finish(offset);
}

}  // namespace wick::debug
