#include "boot/multiboot.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "base/commas.h"
#include "boot/elf_file.h"
#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr const char* kBootLoaderName = "wick";

// The kernel's range in memory, and its entry.
struct Placed {
  GuestMemory::Range range;
  uint64_t entry = 0;
};

std::unexpected<Error> not_in_ram(const GuestMemory& memory, const std::string& what,
                                  uint64_t start, uint64_t end) {
  return with_hint(fail("{} from {:#x} to {:#x}, but the guest has {} MiB of memory", what, start,
                        end, mebibytes(memory.size_bytes())),
                   end <= kLowRamEnd
                       ? fmt::format("give at least {} MiB with --memory", mebibytes(end))
                       : fmt::format("no guest has memory from {:#x} to 4 GiB", kLowRamEnd));
}

// Loads the kernel by the addresses of the header (3.1.3), which have precedence over those of an
// ELF file.
Result<Placed> load_by_addresses(const GuestMemory& memory, const InputFile& file,
                                 const MultibootHeader& header) {
  const std::string& name = file.name();
  const uint64_t start = header.load_addr;
  if (header.header_addr < start || header.header_addr - start > header.file_offset)
    return fail(
        "{}: damaged Multiboot header: it is at {:#x} of the file and at {:#x} in memory, "
        "where the file's part begins at {:#x}",
        name, header.file_offset, header.header_addr, start);
  const uint64_t offset = header.file_offset - (header.header_addr - start);
  const uint64_t load_end =
      header.load_end_addr != 0 ? header.load_end_addr : start + (file.size_bytes() - offset);
  const uint64_t end = header.bss_end_addr != 0 ? header.bss_end_addr : load_end;
  if (load_end <= start || end < load_end)
    return fail("{}: damaged Multiboot header: loaded from {:#x} to {:#x}, with its bss to {:#x}",
                name, start, load_end, end);
  if (load_end - start > file.size_bytes() - offset)
    return with_hint(fail("{}: the file is cut short: {:#x} bytes at {:#x} are to be loaded, the "
                          "file ends at {:#x}",
                          name, load_end - start, offset, file.size_bytes()),
                     "copy it again");
  if (start < kHighMemory)
    return fail("{}: a kernel at {:#x}, below 1 MiB, where wick keeps the boot information", name,
                start);
  if (!memory.slice({start}, end - start))
    return not_in_ram(memory, fmt::format("{}: the kernel is", name), start, end);
  if (header.entry_addr < start || header.entry_addr >= load_end)
    return fail("{}: the entry {:#x} is not in what is loaded, {:#x} to {:#x}", name,
                header.entry_addr, start, load_end);
  // The bss is zero already.
  const auto to = TRY(memory.slice({start}, load_end - start));
  TRY(file.read(offset, to));
  return Placed{{{start}, end - start}, header.entry_addr};
}

Result<Placed> load_by_segments(const GuestMemory& memory, const InputFile& file) {
  const ElfFile elf = TRY(read_elf_file(file));
  const auto segments = TRY(loadable_segments(memory, file, elf.segments));
  // A kernel that is linked for the upper half of the address space may give a virtual entry, an
  // address that is valid only after the kernel has set up paging. GRUB and QEMU translate it, too.
  uint64_t entry = elf.entry;
  for (const Elf64_Phdr& segment : segments)
    if (elf.entry >= segment.p_vaddr && elf.entry - segment.p_vaddr < segment.p_filesz) {
      entry = elf.entry - segment.p_vaddr + segment.p_paddr;
      break;
    }
  const bool is_loaded = std::ranges::any_of(segments, [entry](const Elf64_Phdr& segment) {
    return entry >= segment.p_paddr && entry - segment.p_paddr < segment.p_filesz;
  });
  if (!is_loaded) return fail("{}: the entry {:#x} is in no segment", file.name(), elf.entry);
  TRY(load_segments(memory, file, segments));
  return Placed{range_of(segments), entry};
}

Result<Placed> load_kernel(const GuestMemory& memory, const InputFile& file,
                           const MultibootHeader& header) {
  using Header = MultibootHeader;
  constexpr uint32_t kKnown = Header::kPageAlign | Header::kMemoryInfo | Header::kVideoMode;
  // 3.1.2: a loader that does not know a requirement must refuse the kernel.
  if (const uint32_t unknown = header.flags & Header::kRequirements & ~kKnown; unknown != 0)
    return fail("{}: the kernel requires the Multiboot features {:#x}, which wick does not have",
                file.name(), unknown);
  if ((header.flags & Header::kAddresses) != 0) return load_by_addresses(memory, file, header);
  return load_by_segments(memory, file);
}

// Copies the modules behind the kernel. The caller must still set `string` of each result.
Result<std::vector<MultibootModule>> load_modules(const GuestMemory& memory,
                                                  const std::vector<BootModule>& modules,
                                                  uint64_t kernel_end) {
  std::vector<MultibootModule> loaded;
  uint64_t end = kernel_end;
  for (const BootModule& module : modules) {
    const uint64_t start = align_up(end, kPageBytes);
    const uint64_t size = module.file.size_bytes();
    const auto to = memory.slice({start}, size);
    if (!to || start + size > kAddressableEnd)
      return not_in_ram(memory, fmt::format("{}: the module would be", module.file.name()), start,
                        start + size);
    TRY(module.file.read(0, *to));
    end = start + size;
    loaded.push_back(
        {.mod_start = static_cast<uint32_t>(start), .mod_end = static_cast<uint32_t>(end)});
  }
  return loaded;
}

// The data for the kernel: one block below 1 MiB, where no kernel is loaded.
class InfoBlock {
 public:
  // Appends `bytes` and returns their guest address.
  uint32_t append(std::span<const std::byte> bytes) {
    block_.resize(align_up(block_.size(), sizeof(uint32_t)));
    const uint64_t address = kCommandLine.value + block_.size();
    block_.insert(block_.end(), bytes.begin(), bytes.end());
    return static_cast<uint32_t>(address);
  }
  template <typename T>
  uint32_t append_list(const std::vector<T>& list) {
    return append(as_bytes(list.data(), list.size() * sizeof(T)));
  }
  uint32_t append(const std::string& text) {
    return append(as_bytes(text.c_str(), text.size() + 1));
  }

  // Adds `info` and writes the block; returns the address of `info`.
  Result<GuestAddress> write(const GuestMemory& memory, const MultibootInfo& info) {
    const uint32_t address = append(as_bytes(&info, sizeof(info)));
    if (block_.size() > kCommandLineBytes)
      return with_hint(fail("command lines: {} bytes with the list of modules, but {} fit",
                            block_.size(), kCommandLineBytes),
                       "shorten --append, --cmdline or --initrd");
    TRY(memory.write_bytes(kCommandLine, block_));
    return GuestAddress{address};
  }

 private:
  std::vector<std::byte> block_;
};

std::vector<MultibootMmapEntry> mmap_of(const GuestMemory& memory) {
  std::vector<MultibootMmapEntry> map;
  for (const MemoryMapEntry& entry : memory_map(memory))
    map.push_back({.base_addr = entry.start,
                   .length = entry.size_bytes,
                   .type = static_cast<uint32_t>(entry.type)});
  return map;
}

// Returns the KiB of RAM from 1 MiB to the first hole.
uint32_t upper_memory(const GuestMemory& memory) {
  for (const GuestMemory::Region& region : memory.regions()) {
    const uint64_t end = region.start.value + region.size_bytes;
    if (region.start.value <= kHighMemory && end > kHighMemory)
      return static_cast<uint32_t>((end - kHighMemory) >> 10);
  }
  return 0;
}

// Returns the name with '_' in place of blanks and control characters: a kernel skips only the
// first word of its command line to get to the arguments.
std::string name_word(std::string name) {
  std::ranges::replace_if(
      name, [](char c) { return static_cast<unsigned char>(c) <= ' '; }, '_');
  return name;
}

}  // namespace

Result<std::vector<BootModule>> open_modules(const std::string& text) {
  std::vector<BootModule> modules;
  if (text.empty()) return modules;
  for (std::string& part : split_at_commas(text)) {
    const std::string path = part.substr(0, part.find(' '));
    if (path.empty())
      return with_hint(fail("--initrd '{}': a module without a file name", text),
                       "a Multiboot kernel takes 'FILE args,FILE args'");
    modules.push_back({TRY(InputFile::open(path)), std::move(part)});
  }
  return modules;
}

Result<BootImage> load_multiboot(const GuestMemory& memory, const BootFiles& files) {
  TRY(check_low_memory(memory));
  const Placed kernel = TRY(load_kernel(memory, files.kernel, *files.multiboot));
  const uint64_t kernel_end = kernel.range.start.value + kernel.range.size_bytes;
  auto modules = TRY(load_modules(memory, files.modules, kernel_end));

  InfoBlock block;
  MultibootInfo info{.flags = MultibootInfo::kMemory | MultibootInfo::kCmdline |
                              MultibootInfo::kMods | MultibootInfo::kMmap |
                              MultibootInfo::kBootLoaderName};
  info.mem_lower = static_cast<uint32_t>(kConventionalEnd >> 10);
  info.mem_upper = upper_memory(memory);
  info.cmdline = block.append(name_word(files.kernel.path()) +
                              (files.cmdline.empty() ? "" : " " + files.cmdline));
  for (size_t i = 0; i < modules.size(); ++i)
    modules[i].string = block.append(files.modules[i].text);
  info.mods_count = static_cast<uint32_t>(modules.size());
  info.mods_addr = block.append_list(modules);
  const auto map = mmap_of(memory);
  info.mmap_addr = block.append_list(map);
  info.mmap_length = static_cast<uint32_t>(map.size() * sizeof(MultibootMmapEntry));
  info.boot_loader_name = block.append(std::string(kBootLoaderName));
  const GuestAddress address = TRY(block.write(memory, info));

  BootImage loaded;
  loaded.kernel_range = kernel.range;
  if (!modules.empty())
    loaded.initrd_range = {{modules.front().mod_start},
                           modules.back().mod_end - modules.front().mod_start};
  loaded.cpu =
      TRY(multiboot_entry(memory, {kernel.entry}, address, MultibootInfo::kBootloaderMagic));
  loaded.kernel = fmt::format("Multiboot kernel, {} modules", modules.size());
  if ((files.multiboot->flags & MultibootHeader::kVideoMode) != 0)
    loaded.warning = fmt::format("{}: the kernel wants a video mode; it gets none, as with QEMU",
                                 files.kernel.name());
  return loaded;
}

}  // namespace wick::boot
