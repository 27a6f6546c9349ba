#include "boot/unpacked_kernel.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.h"

namespace wick::boot {

namespace {

constexpr uint16_t kMaxProgramHeaders = 64;
constexpr uint64_t kMaxMemoryBytes = 1 << 30;  // KERNEL_IMAGE_SIZE
// A list has an entry of 4 bytes for each address in the kernel. Debian's lists are 2 MiB.
constexpr uint64_t kMaxRelocationBytes = 64 << 20;
// The kernel's link addresses are physical addresses plus this constant (Linux,
// __START_KERNEL_map).
constexpr uint64_t kStartKernelMap = 0xffff'ffff'8000'0000;

// Returns the offset of a relocated word from the kernel's start; a huge number if the word lies
// before the start.
uint64_t offset_of(uint32_t relocation, uint64_t start) {
  const auto address =
      static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(relocation)));
  return address - kStartKernelMap - start;
}

// Applies `change` to each relocated word. `code` has the kernel's bytes from its start, at least
// 8. Returns false if a word is not wholly in `code`.
template <typename Word, typename Change>
bool relocate(std::span<std::byte> code, std::span<const uint32_t> relocations, uint64_t start,
              Change change) {
  for (const uint32_t relocation : relocations) {
    const uint64_t offset = offset_of(relocation, start);
    if (offset > code.size() - sizeof(Word)) return false;
    Word word;
    std::memcpy(&word, code.data() + offset, sizeof(word));
    word = change(word);
    std::memcpy(code.data() + offset, &word, sizeof(word));
  }
  return true;
}

}  // namespace

Result<HostBuffer> HostBuffer::create(size_t size_bytes) {
  void* const area = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return fail_errno(errno, "cannot map {} bytes", size_bytes);
  (void)::madvise(area, size_bytes, MADV_HUGEPAGE);
  return HostBuffer({static_cast<std::byte*>(area), size_bytes});
}

HostBuffer::~HostBuffer() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Result<std::optional<UnpackedKernel>> UnpackedKernel::parse(Data data, uint64_t start,
                                                            const std::string& name) {
  UnpackedKernel kernel(std::move(data), name);
  if (!TRY(kernel.read_segments(start))) return std::nullopt;
  return kernel;
}

uint64_t UnpackedKernel::size_bytes() const {
  if (const auto* const file = std::get_if<InputFile>(&data_)) return file->size_bytes();
  return std::get<HostBuffer>(data_).bytes().size();
}

// Reads bytes of the payload. The callers must have checked the range against size_bytes().
Result<void> UnpackedKernel::read(uint64_t offset, std::span<std::byte> to) const {
  if (const auto* const file = std::get_if<InputFile>(&data_)) return file->read(offset, to);
  std::ranges::copy(std::get<HostBuffer>(data_).bytes().subspan(offset, to.size()), to.begin());
  return {};
}

// Reads the program headers. Like read_relocations(), returns false if the data are not what
// Linux's build makes.
Result<bool> UnpackedKernel::read_segments(uint64_t start) {
  Elf64_Ehdr header{};
  if (size_bytes() < sizeof(header)) return false;
  TRY(read(0, std::as_writable_bytes(std::span(&header, 1))));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_machine != EM_X86_64 || header.e_phentsize != sizeof(Elf64_Phdr) ||
      header.e_phnum == 0 || header.e_phnum > kMaxProgramHeaders || header.e_phoff > size_bytes() ||
      header.e_phnum * sizeof(Elf64_Phdr) > size_bytes() - header.e_phoff)
    return false;
  segments_.resize(header.e_phnum);
  TRY(read(header.e_phoff, std::as_writable_bytes(std::span(segments_))));
  std::erase_if(segments_, [](const Elf64_Phdr& segment) { return segment.p_type != PT_LOAD; });
  start_ = start;
  for (const Elf64_Phdr& segment : segments_) {
    const uint64_t offset = segment.p_paddr - start;  // huge if the segment lies before the start
    if (offset > kMaxMemoryBytes || segment.p_memsz > kMaxMemoryBytes - offset ||
        segment.p_filesz > segment.p_memsz || segment.p_offset > size_bytes() ||
        segment.p_filesz > size_bytes() - segment.p_offset)
      return false;
    memory_bytes_ = std::max(memory_bytes_, offset + segment.p_memsz);
  }
  entry_offset_ = header.e_entry - start;
  if (memory_bytes_ < sizeof(uint64_t) || entry_offset_ >= memory_bytes_) return false;
  // The build leaves the section headers at the end of the ELF file.
  const uint64_t sections_bytes = uint64_t{header.e_shnum} * header.e_shentsize;
  if (header.e_shoff > size_bytes() || sections_bytes > size_bytes() - header.e_shoff) return false;
  return read_relocations(header.e_shoff + sections_bytes);
}

Result<bool> UnpackedKernel::read_relocations(uint64_t offset) {
  const uint64_t bytes = size_bytes() - offset;
  if (bytes % sizeof(uint32_t) != 0 || bytes > kMaxRelocationBytes) return false;
  relocations_.resize(bytes / sizeof(uint32_t));
  TRY(read(offset, std::as_writable_bytes(std::span(relocations_))));
  return bytes == 0 || (split_relocations() && relocations_are_inside());
}

// Finds the lists, each preceded by a zero. There are three, or two since Linux 6.15, which has no
// middle list.
std::optional<UnpackedKernel::Relocations> UnpackedKernel::split_relocations() const {
  std::span<const uint32_t> rest = relocations_;
  std::vector<std::span<const uint32_t>> lists;
  while (!rest.empty()) {
    if (rest.front() != 0 || lists.size() == 3) return std::nullopt;
    rest = rest.subspan(1);
    const auto end = std::ranges::find(rest, 0u);
    lists.push_back(rest.first(static_cast<size_t>(end - rest.begin())));
    rest = rest.subspan(lists.back().size());
  }
  if (lists.size() < 2) return std::nullopt;
  return Relocations{.add_32bit = lists.back(),
                     .subtract_32bit = lists.size() == 3 ? lists[1] : std::span<const uint32_t>(),
                     .add_64bit = lists.front()};
}

bool UnpackedKernel::relocations_are_inside() const {
  return std::ranges::all_of(relocations_, [this](uint32_t relocation) {
    return relocation == 0 || offset_of(relocation, start_) <= memory_bytes_ - sizeof(uint64_t);
  });
}

Result<GuestAddress> UnpackedKernel::load(const GuestMemory& memory, GuestAddress start,
                                          uint64_t slide) const {
  const auto code = TRY(memory.slice(start, memory_bytes_));
  for (const Elf64_Phdr& segment : segments_)
    TRY(read(segment.p_offset, code.subspan(segment.p_paddr - start_, segment.p_filesz)));
  if (slide != 0) {
    const auto lists = split_relocations();
    const auto add = [slide](auto word) { return static_cast<decltype(word)>(word + slide); };
    const auto subtract = [slide](auto word) { return static_cast<decltype(word)>(word - slide); };
    if (!lists || !relocate<uint32_t>(code, lists->add_32bit, start_, add) ||
        !relocate<uint32_t>(code, lists->subtract_32bit, start_, subtract) ||
        !relocate<uint64_t>(code, lists->add_64bit, start_, add))
      return fail("{}: a relocation lies outside of the kernel", name_);
  }
  return start + entry_offset_;
}

}  // namespace wick::boot
