#include "boot/bzimage.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "boot/boot_params.h"
#include "boot/cmdline.h"
#include "boot/decompress.h"
#include "boot/initrd.h"
#include "boot/kaslr.h"
#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr uint16_t kBootFlag = 0xaa55;
constexpr uint32_t kHeaderMagic = 0x5372'6448;  // "HdrS"
// The protocol versions that introduced the fields that are used here (boot.rst, "Details of Header
// Fields").
constexpr uint16_t kHasCmdlineSize = 0x0206;
constexpr uint16_t kHasPayload = 0x0208;
constexpr uint16_t kHasInitSize = 0x020a;  // version with init_size and pref_address
constexpr uint16_t kHasXloadflags = 0x020c;
constexpr uint8_t kJumpShort = 0xeb;
constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kParagraphBytes = 16;
constexpr uint64_t kEntry64 = 0x200;  // offset of the 64-bit entry in the protected-mode code
constexpr uint8_t kLoaderUndefined = 0xff;
constexpr uint16_t kVideoModeNormal = 0xffff;

// The header, checked against the file.
struct Image {
  std::vector<std::byte> raw_header;  // may be longer than ::setup_header
  ::setup_header header{};
  uint64_t code_offset = 0;  // offset of the protected-mode code in the file
  uint64_t code_bytes = 0;   // the part of the code that the file has
  // The size of the code in whole paragraphs (syssize): code_bytes, and zeroes to the end of the
  // last paragraph.
  uint64_t size_bytes = 0;

  bool has_64bit_entry() const { return (header.xloadflags & XLF_KERNEL_64) != 0; }
  bool takes_initrd_above_4g() const {
    return has_64bit_entry() && (header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) != 0;
  }
};

struct Placement {
  GuestMemory::Range kernel;
  GuestMemory::Range initrd;
};

// Refuses a file that is not a bzImage, or that wick cannot start.
Result<void> check_kind(const ::setup_header& header, const std::string& name) {
  const uint16_t boot_flag = header.boot_flag;
  const uint32_t magic = header.header;
  const uint16_t version = header.version;
  if (boot_flag != kBootFlag)
    return fail("{}: not a Linux kernel: boot_flag is {:#x}, not {:#x}", name, boot_flag,
                kBootFlag);
  if (magic != kHeaderMagic)
    return fail("{}: not a bzImage: its setup header has no \"HdrS\"", name);
  if (version < kHasCmdlineSize)
    return with_hint(fail("{}: boot protocol {}.{:02} is too old, wick needs 2.06", name,
                          version >> 8, version & 0xff),
                     "use Linux 2.6.22 or later");
  if ((header.loadflags & LOADED_HIGH) == 0)
    return fail("{}: a zImage (LOADED_HIGH is off), wick boots bzImages", name);

  // code32_start is the 32-bit entry, which a kernel with LOADED_HIGH must have.
  if (header.code32_start == 0)
    return with_hint(fail("{}: starts in real mode and calls a BIOS (code32_start is 0), but wick "
                          "has no BIOS",
                          name),
                     "give --kernel the kernel that it would have booted");
  return {};
}

// Reads the whole header from `start`, the first bytes of the file.
Result<void> read_header(std::span<const std::byte> start, Image& image, const std::string& name) {
  ::setup_header& header = image.header;
  if ((header.jump & 0xff) != kJumpShort)
    return fail(
        "{}: the setup header is damaged: the opcode at 0x200 is {:#04x}, not a short jump "
        "({:#04x})",
        name, header.jump & 0xff, kJumpShort);
  // The target of the jump is the end of the header (boot.rst, "64-bit Boot Protocol").
  const uint64_t header_end =
      offsetof(::boot_params, hdr.header) + static_cast<uint8_t>(header.jump >> 8);
  const uint64_t needed_end = header.version < kHasInitSize
                                  ? offsetof(::boot_params, hdr.hardware_subarch)
                                  : offsetof(::boot_params, hdr.handover_offset);
  if (header_end < needed_end || header_end > kSetupHeaderLimit)
    return fail("{}: the setup header is damaged: it ends at {:#x}", name, header_end);
  image.raw_header.assign(start.begin() + kSetupHeader,
                          start.begin() + static_cast<ptrdiff_t>(header_end));
  // The fields that a shorter header lacks are 0, not the code that follows it.
  std::memset(&header, 0, sizeof(header));
  std::memcpy(&header, image.raw_header.data(), std::min(sizeof(header), image.raw_header.size()));

  if (header.version < kHasXloadflags) header.xloadflags = 0;
  if (header.version < kHasPayload) header.payload_offset = header.payload_length = 0;
  return {};
}

// Finds the protected-mode code in the file.
Result<void> find_code(const InputFile& file, Image& image) {
  const std::string& name = file.name();
  const ::setup_header& header = image.header;
  const uint64_t setup_sectors = header.setup_sects == 0 ? 4 : header.setup_sects;
  image.code_offset = (setup_sectors + 1) * kSectorBytes;
  image.size_bytes = header.syssize * kParagraphBytes;
  if (image.size_bytes <= kEntry64)
    return fail("{}: the setup header is damaged: syssize gives {} bytes of code", name,
                image.size_bytes);
  // The file may be longer than the code, by a signature for instance. It may also be shorter
  // by part of a paragraph, because syssize is rounded up to paragraphs.
  const uint64_t file_bytes = image.code_offset + image.size_bytes;
  image.code_bytes =
      std::min(file.size_bytes(), file_bytes) - std::min(file.size_bytes(), image.code_offset);
  if (image.size_bytes - image.code_bytes >= kParagraphBytes)
    return with_hint(fail("{}: the file is cut short: {} of {} bytes are missing", name,
                          file_bytes - file.size_bytes(), file_bytes),
                     "copy it again");
  return {};
}

// Checks the memory in which the kernel unpacks itself. Guesses that memory if the header is too
// old to give it.
Result<void> check_unpacking(Image& image, const std::string& name) {
  ::setup_header& header = image.header;
  const uint64_t payload_end = uint64_t{header.payload_offset} + header.payload_length;
  if (payload_end > image.size_bytes)
    return fail("{}: the setup header is damaged: the payload ends at {:#x}, the code at {:#x}",
                name, payload_end, image.size_bytes);
  const uint32_t alignment = header.kernel_alignment;
  if (header.relocatable_kernel != 0 && !std::has_single_bit(alignment))
    return fail("{}: the setup header is damaged: kernel_alignment {:#x} is not a power of two",
                name, alignment);
  if (header.version < kHasInitSize) {
    // The header does not give the unpacked size. This guess, three times the compressed size, is
    // GRUB's.
    header.pref_address = kHighMemory;
    header.init_size =
        static_cast<uint32_t>(std::min<uint64_t>(image.size_bytes * 3, kAddressableEnd - 1));
  }
  const uint64_t pref_address = header.pref_address;
  const uint64_t init_size = header.init_size;
  if (init_size < image.size_bytes)
    return fail("{}: the setup header is damaged: init_size {:#x} is less than the code, {:#x}",
                name, init_size, image.size_bytes);
  if (pref_address >= kAddressableEnd || init_size > kAddressableEnd - pref_address)
    return fail("{}: the setup header is damaged: {:#x} bytes at pref_address {:#x} pass 4 GiB",
                name, init_size, pref_address);
  return {};
}

Result<Image> read_image(const InputFile& file) {
  const std::string& name = file.name();
  std::array<std::byte, kSetupHeaderLimit> start;
  if (file.size_bytes() < start.size())
    return fail("{}: {} bytes are too few for a Linux kernel", name, file.size_bytes());
  TRY(file.read(0, start));

  Image image;
  std::memcpy(&image.header, start.data() + kSetupHeader, sizeof(image.header));
  TRY(check_kind(image.header, name));
  TRY(read_header(start, image, name));
  TRY(find_code(file, image));
  TRY(check_unpacking(image, name));
  return image;
}

// Returns the possible load addresses of the kernel, best first. Linux never runs below
// pref_address: if it is loaded lower, it moves itself up to that address and overwrites what is
// there (arch/x86/boot/compressed/head_64.S and head_32.S). So a kernel is relocated only upward,
// to avoid a hole in memory or to make room for the initrd.
std::vector<uint64_t> kernel_places(const GuestMemory& memory, const ::setup_header& header) {
  const uint64_t size = header.init_size;
  const uint64_t preferred = std::max(uint64_t{header.pref_address}, kHighMemory);
  std::vector<uint64_t> low;
  std::vector<uint64_t> high;
  for (const GuestMemory::Region& region : memory.regions()) {
    const uint64_t end = std::min(region.start.value + region.size_bytes, kAddressableEnd);
    const uint64_t start = std::max(region.start.value, preferred);
    if (start >= end) continue;
    if (header.relocatable_kernel == 0) {
      if (start == preferred && size <= end - start) low.push_back(start);
      continue;
    }
    const uint64_t lowest = align_up(start, header.kernel_alignment);
    if (lowest >= end || size > end - lowest) continue;
    low.push_back(lowest);
    high.push_back((end - size) & ~uint64_t{header.kernel_alignment - 1});
  }
  low.insert(low.end(), high.begin(), high.end());
  return low;
}

// Returns the lowest load address of the kernel; for a relocatable kernel, the lowest that is at or
// above `address`.
uint64_t lowest_place(const ::setup_header& header, uint64_t address = 0) {
  const uint64_t preferred = std::max(uint64_t{header.pref_address}, kHighMemory);
  if (header.relocatable_kernel == 0) return preferred;
  return align_up(std::max(preferred, address), header.kernel_alignment);
}

// Returns the size of guest memory in bytes that the kernel and an initrd need; nullopt if no size
// suffices.
std::optional<uint64_t> needed_memory(const Image& image, uint64_t initrd_bytes,
                                      uint64_t initrd_end) {
  const ::setup_header& header = image.header;
  const bool anywhere = image.takes_initrd_above_4g();
  const uint64_t limit = anywhere ? kLowRamEnd : std::min(initrd_end, kLowRamEnd);
  const uint64_t behind = lowest_place(header) + header.init_size + initrd_bytes;
  const uint64_t below = kHighMemory + initrd_bytes;
  const uint64_t kernel_behind = lowest_place(header, below) + header.init_size;
  std::optional<uint64_t> least;
  if (anywhere) least = kLowRamEnd + initrd_bytes;
  if (behind <= limit) least = behind;
  if (header.relocatable_kernel != 0 && below <= limit && kernel_behind <= kLowRamEnd)
    least = std::min(least.value_or(UINT64_MAX), kernel_behind);
  return least;
}

Result<Placement> place(const GuestMemory& memory, const Image& image, const BootFiles& files) {
  const ::setup_header& header = image.header;
  const uint64_t init_size = header.init_size;
  const std::vector<uint64_t> places = kernel_places(memory, header);
  const uint64_t preferred = std::max(uint64_t{header.pref_address}, kHighMemory);
  if (places.empty()) {
    const uint64_t needed = lowest_place(header) + init_size;
    return with_hint(
        fail("{}: the kernel unpacks to {} MiB at {:#x}, but the guest has {} MiB of memory",
             files.kernel.name(), mebibytes(init_size), preferred, mebibytes(memory.size_bytes())),
        needed <= kLowRamEnd
            ? fmt::format("give at least {} MiB with --memory", mebibytes(needed))
            : fmt::format("use another kernel: no guest has memory from {:#x} to 4 GiB",
                          kLowRamEnd));
  }
  if (!files.initrd) return Placement{{{places.front()}, init_size}, {}};

  // initrd_addr_max is the highest byte that the initrd may occupy. A kernel with
  // XLF_CAN_BE_LOADED_ABOVE_4G takes an initrd anywhere, but a place up to initrd_addr_max is
  // preferred.
  const uint64_t initrd_end = uint64_t{header.initrd_addr_max} + 1;
  const uint64_t initrd_bytes = files.initrd->size_bytes();
  for (const uint64_t end : {initrd_end, image.takes_initrd_above_4g() ? UINT64_MAX : 0}) {
    for (const uint64_t address : places) {
      const GuestMemory::Range kernel{{address}, init_size};
      if (const auto initrd = place_initrd(memory, initrd_bytes, end, kernel))
        return Placement{kernel, *initrd};
    }
  }
  const std::string& name = files.initrd->name();
  const auto needed = needed_memory(image, initrd_bytes, initrd_end);
  if (!needed)
    return with_hint(fail("{}: {} MiB and a kernel of {} MiB do not fit below {:#x} "
                          "(initrd_addr_max), however much memory the guest has",
                          name, mebibytes(initrd_bytes), mebibytes(init_size), initrd_end),
                     "use a smaller initrd");
  return with_hint(
      fail("{}: {} MiB and a kernel of {} MiB do not fit into the guest's {} MiB of memory", name,
           mebibytes(initrd_bytes), mebibytes(init_size), mebibytes(memory.size_bytes())),
      fmt::format("give at least {} MiB with --memory or use a smaller initrd",
                  mebibytes(*needed)));
}

// Writes the fields that the loader must fill in (boot.rst, "Details of Header Fields").
// heap_end_ptr and CAN_USE_HEAP are not set: they are for the real-mode code, which never runs.
void fill_in(::setup_header& header, const Placement& placement) {
  header.vid_mode = kVideoModeNormal;
  header.type_of_loader = kLoaderUndefined;
  header.ext_loader_type = 0;
  header.ext_loader_ver = 0;
  header.code32_start = static_cast<uint32_t>(placement.kernel.start.value);
  // The low halves of the initrd's address and size; write_boot_params() writes the high halves.
  header.ramdisk_image = static_cast<uint32_t>(placement.initrd.start.value);
  header.ramdisk_size = static_cast<uint32_t>(placement.initrd.size_bytes);
  header.cmd_line_ptr = static_cast<uint32_t>(kCommandLine.value);
  header.setup_data = 0;
}

// Loads the bzImage's protected-mode code, which will unpack the kernel.
Result<CpuState> load_packed(const GuestMemory& memory, const BootFiles& files, const Image& image,
                             GuestAddress start) {
  const auto code = TRY(memory.slice(start, image.size_bytes));
  TRY(files.kernel.read(image.code_offset, code.first(image.code_bytes)));
  return image.has_64bit_entry() ? linux_64bit_entry(memory, start + kEntry64, kBootInfo)
                                 : linux_32bit_entry(memory, start, kBootInfo);
}

// Loads the kernel as the bzImage's own code would, and updates `placement` and the header.
Result<CpuState> load_unpacked(const GuestMemory& memory, const BootFiles& files, Image& image,
                               Placement& placement) {
  const UnpackedKernel& kernel = *files.unpacked;
  KernelPlace chosen{.start = placement.kernel.start};
  if (kernel.can_slide() && image.header.relocatable_kernel != 0)
    chosen = TRY(choose_place(memory, {.start = placement.kernel.start,
                                       .linked_start = image.header.pref_address,
                                       .memory_bytes = kernel.memory_bytes(),
                                       .image_bytes = kernel.size_bytes(),
                                       .alignment = image.header.kernel_alignment,
                                       .initrd = placement.initrd,
                                       .cmdline = files.cmdline}));
  placement.kernel = {chosen.start, kernel.memory_bytes()};
  if (chosen.randomized) image.header.loadflags |= KASLR_FLAG;
  const GuestAddress entry = TRY(kernel.load(memory, chosen.start, chosen.slide));
  const bool five_levels = files.five_level_paging &&
                           (image.header.xloadflags & XLF_5LEVEL_ENABLED) != 0 &&
                           !has_word(files.cmdline, "no5lvl");
  return linux_64bit_entry(memory, entry, kBootInfo, five_levels);
}

// Returns text such as ", Linux 6.1.0-18-amd64", with the first word of the version string in the
// setup code; empty if there is no version string.
std::string version_text(const InputFile& file, const Image& image) {
  const uint64_t offset = uint64_t{image.header.kernel_version} + kSectorBytes;
  if (image.header.kernel_version == 0 || offset >= image.code_offset) return {};
  std::array<std::byte, 80> bytes;
  const uint64_t length = std::min<uint64_t>(bytes.size(), image.code_offset - offset);
  if (!file.read(offset, std::span(bytes).first(length))) return {};
  std::string text = ", Linux ";
  for (uint64_t i = 0; i < length; ++i) {
    const char c = static_cast<char>(bytes[i]);
    if (c <= ' ' || c > '~') break;
    text += c;
  }
  return text;
}

}  // namespace

Result<std::optional<UnpackedKernel>> unpack_bzimage(const InputFile& file,
                                                     const KernelCache& cache) {
  const Image image = TRY(read_image(file));
  const ::setup_header& header = image.header;
  // The last four bytes of the payload, after the compressed data, are their decompressed size.
  constexpr uint32_t kSizeBytes = sizeof(uint32_t);
  if (!image.has_64bit_entry() || header.payload_length <= kSizeBytes ||
      header.payload_offset + header.payload_length > image.code_bytes)
    return std::nullopt;
  const std::string entry = cache.entry_of(file);
  if (auto kept = cache.find(entry)) {
    auto kernel = UnpackedKernel::parse(*std::move(kept), header.pref_address, file.name());
    if (kernel && *kernel && (*kernel)->memory_bytes() <= header.init_size)
      return std::move(*kernel);
    cache.remove(entry);
  }

  std::vector<std::byte> payload(header.payload_length);
  TRY(file.read(image.code_offset + header.payload_offset, payload));
  const auto size = load_le<uint32_t>(std::span(payload).last(kSizeBytes));
  const Compression compression = compression_of(payload);
  // The unpacked data must fit into the init_size bytes that the kernel says it needs.
  if (compression == Compression::kNone || size == 0 ||
      size > std::min<uint64_t>(header.init_size, kMaxDecompressedBytes))
    return std::nullopt;
  // Without a cache, the kernel's own code is as quick as wick, and saves a copy.
  if (compression == Compression::kQuick && entry.empty()) return std::nullopt;
  HostBuffer buffer = TRY(HostBuffer::create(size));
  const uint64_t written = TRY(decompress_stream(payload, buffer.bytes(), file.name()));
  if (written != size)
    return with_hint(
        fail("{}: the kernel in it unpacks to {} bytes instead of {}", file.name(), written, size),
        "copy it again");
  const auto bytes = buffer.bytes();
  auto kernel = TRY(UnpackedKernel::parse(std::move(buffer), header.pref_address, file.name()));
  // place() has reserved init_size bytes for the kernel.
  if (!kernel || kernel->memory_bytes() > header.init_size) return std::nullopt;
  cache.keep(entry, file, bytes);
  return kernel;
}

Result<BootImage> load_bzimage(const GuestMemory& memory, const BootFiles& files) {
  TRY(check_low_memory(memory));
  Image image = TRY(read_image(files.kernel));
  Placement placement = TRY(place(memory, image, files));
  BootImage loaded;
  if (files.unpacked)
    loaded.cpu = TRY(load_unpacked(memory, files, image, placement));
  else
    loaded.cpu = TRY(load_packed(memory, files, image, placement.kernel.start));
  if (files.initrd) TRY(load_initrd(memory, *files.initrd, placement.initrd));
  TRY(write_command_line(memory, files.cmdline, image.header.cmdline_size));

  fill_in(image.header, placement);
  std::memcpy(image.raw_header.data(), &image.header,
              std::min(sizeof(image.header), image.raw_header.size()));
  TRY(write_boot_params(memory, image.raw_header, placement.initrd, files.rsdp));

  loaded.kernel = fmt::format(
      "bzImage, boot protocol {}.{:02}{}{}", image.header.version >> 8, image.header.version & 0xff,
      image.has_64bit_entry() ? "" : ", 32-bit entry", version_text(files.kernel, image));
  loaded.kernel_range = placement.kernel;
  loaded.initrd_range = placement.initrd;
  return loaded;
}

}  // namespace wick::boot
