#include "debug/kaslr_slide.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/fd.h"

namespace wick::debug {

namespace {

// A vmlinux with debug information has about 100 sections, 200 000 symbols and 5 MiB of names.
constexpr uint64_t kMaxSections = 65535;
constexpr uint64_t kMaxTableBytes = 256 << 20;

template <typename T>
Result<T> read_at(const SymbolFile& file, uint64_t offset) {
  T value{};
  const bool inside = offset <= file.size_bytes && sizeof(T) <= file.size_bytes - offset;
  if (!inside || !file.read(offset, std::as_writable_bytes(std::span(&value, 1))))
    return fail("{}: the file ends within its headers", file.name);
  return value;
}

Result<Elf64_Ehdr> read_header(const SymbolFile& file) {
  const auto header = TRY(read_at<Elf64_Ehdr>(file, 0));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != EM_X86_64) {
    return with_hint(fail("{}: not an ELF file for x86-64", file.name),
                     "give the vmlinux from the kernel's build folder, not its bzImage");
  }
  if (header.e_shoff == 0 || header.e_shentsize != sizeof(Elf64_Shdr) ||
      header.e_shoff > file.size_bytes)
    return with_hint(fail("{}: it has no sections", file.name),
                     "give a vmlinux that is not stripped");
  return header;
}

Result<Elf64_Shdr> read_section(const SymbolFile& file, const Elf64_Ehdr& header, uint64_t index) {
  // e_shoff is within the file and `index` at most kMaxSections, so the sum does not wrap.
  return read_at<Elf64_Shdr>(file, header.e_shoff + index * sizeof(Elf64_Shdr));
}

Result<void> check_table(const SymbolFile& file, const Elf64_Shdr& table) {
  if (table.sh_offset > file.size_bytes || table.sh_size > file.size_bytes - table.sh_offset)
    return fail("{}: a table of symbols lies outside the file", file.name);
  if (table.sh_size > kMaxTableBytes)
    return fail("{}: a table of symbols is larger than {} MiB", file.name, kMaxTableBytes >> 20);
  return {};
}

struct Tables {
  Elf64_Shdr symbols;
  Elf64_Shdr names;
};

Result<Tables> find_tables(const SymbolFile& file) {
  const auto header = TRY(read_header(file));
  uint64_t count = header.e_shnum;
  // e_shnum is 0 if there are more sections than it can count (gABI, "ELF Header").
  if (count == 0) count = TRY(read_section(file, header, 0)).sh_size;
  if (count > kMaxSections) return fail("{}: it has {} sections", file.name, count);
  for (uint64_t i = 0; i < count; ++i) {
    const auto section = TRY(read_section(file, header, i));
    if (section.sh_type != SHT_SYMTAB) continue;
    if (section.sh_entsize != sizeof(Elf64_Sym) || section.sh_link >= count)
      return fail("{}: its table of symbols is damaged", file.name);
    const Tables tables{section, TRY(read_section(file, header, section.sh_link))};
    TRY(check_table(file, tables.symbols));
    TRY(check_table(file, tables.names));
    return tables;
  }
  return with_hint(fail("{}: it has no symbols", file.name), "give a vmlinux that is not stripped");
}

// Returns all offsets at which `symbol` ends a string in the table of names. ELF tables may store a
// name as the end of a longer one, so there may be several.
std::vector<uint64_t> offsets_of(std::string_view names, std::string_view symbol) {
  constexpr size_t kMaxFound = 64;
  std::vector<uint64_t> found;
  const std::string wanted = std::string(symbol) + '\0';
  for (size_t at = names.find(wanted); at != std::string_view::npos && found.size() < kMaxFound;
       at = names.find(wanted, at + 1))
    found.push_back(at);
  return found;
}

}  // namespace

Result<uint64_t> find_symbol(const SymbolFile& file, std::string_view symbol) {
  const Tables tables = TRY(find_tables(file));
  const auto unreadable = [&] { return fail("{}: cannot read its symbols", file.name); };
  std::vector<char> names(tables.names.sh_size);
  if (!file.read(tables.names.sh_offset, std::as_writable_bytes(std::span(names))))
    return unreadable();
  const auto wanted = offsets_of({names.data(), names.size()}, symbol);

  std::vector<Elf64_Sym> part(4096);
  const uint64_t count = tables.symbols.sh_size / sizeof(Elf64_Sym);
  for (uint64_t done = 0; done < count && !wanted.empty();) {
    part.resize(std::min<uint64_t>(part.size(), count - done));
    if (!file.read(tables.symbols.sh_offset + done * sizeof(Elf64_Sym),
                   std::as_writable_bytes(std::span(part))))
      return unreadable();
    for (const Elf64_Sym& each : part) {
      if (each.st_shndx != SHN_UNDEF && std::ranges::find(wanted, each.st_name) != wanted.end())
        return each.st_value;
    }
    done += part.size();
  }
  return with_hint(fail("{}: it has no symbol {}", file.name, symbol),
                   "give a vmlinux of an x86-64 kernel that is not stripped");
}

Result<LinkedKernel> read_linked_kernel(const std::string& vmlinux) {
  // O_NONBLOCK, so that open(2) does not block if the path is a FIFO.
  const Fd fd(::open(vmlinux.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid())
    return with_hint(fail_errno(errno, "{}: cannot open", vmlinux), "check the path");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
    return with_hint(fail("{}: not a regular file", vmlinux), "give a vmlinux");
  const auto read = [&fd](uint64_t offset, std::span<std::byte> to) {
    while (!to.empty()) {
      const ssize_t got = ::pread(fd.get(), to.data(), to.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      offset += static_cast<uint64_t>(got);
      to = to.subspan(static_cast<size_t>(got));
    }
    return true;
  };
  const SymbolFile file{vmlinux, static_cast<uint64_t>(status.st_size), read};
  const uint64_t entry = TRY(find_symbol(file, "entry_SYSCALL_64"));
  // A kernel without SMP does not have this symbol.
  const auto per_cpu = find_symbol(file, "__per_cpu_start");
  return LinkedKernel{.syscall_entry = entry, .per_cpu_at_zero = per_cpu && *per_cpu == 0};
}

Result<uint64_t> kaslr_slide(uint64_t linked, uint64_t lstar) {
  // KASLR moves the kernel by a multiple of CONFIG_PHYSICAL_ALIGN, and by less than
  // KERNEL_IMAGE_SIZE, 1 GiB.
  constexpr uint64_t kAlignment = 2 << 20;
  constexpr uint64_t kMaxSlide = 1 << 30;
  const uint64_t slide = lstar - linked;
  if (slide % kAlignment == 0 && slide < kMaxSlide) return slide;
  return with_hint(fail("the kernel's entry_SYSCALL_64 is at {:#x}, but the vmlinux has it at "
                        "{:#x}",
                        lstar, linked),
                   "give the vmlinux of the kernel that runs");
}

}  // namespace wick::debug
