#include "boot/boot.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "boot/bzimage.h"
#include "boot/decompress.h"
#include "boot/elf.h"
#include "boot/multiboot.h"

namespace wick::boot {

namespace {

using namespace std::string_view_literals;

// The magic numbers of all kinds of file lie within this many bytes of the file's start.
constexpr size_t kSniffBytes = MultibootHeader::kSearchBytes;

struct Magic {
  size_t offset;
  std::string_view bytes;
  std::string_view kind;
};

constexpr Magic kSetupHeaderMagic{0x202, "HdrS"sv, "a bzImage"};
constexpr Magic kElfMagic{0,
                          "\x7f"
                          "ELF"sv,
                          "an ELF file"};

// Files that users give by mistake in place of a kernel.
constexpr std::array kOthers = {
    Magic{0, "0707"sv, "a cpio archive (an initrd)"},
    Magic{0, "#!"sv, "a script"},
    Magic{0, "QFI\xfb"sv, "a qcow2 disk image"},
    Magic{0, "KDMV"sv, "a VMDK disk image"},
    Magic{0x40, "\x7f\x10\xda\xbe"sv, "a VDI disk image"},
    Magic{0, "\x27\x05\x19\x56"sv, "a U-Boot image"},
    Magic{0x38, "ARM\x64"sv, "an arm64 kernel"},
    Magic{0x30, "RISCV"sv, "a RISC-V kernel"},
    Magic{0x438, "\x53\xef"sv, "an ext2, ext3 or ext4 file system"},
    Magic{0, "MZ"sv, "an EFI program"},
    Magic{0x1fe, "\x55\xaa"sv, "a boot sector (a disk image, or a kernel older than Linux 1.3.73)"},
};

bool matches(std::string_view file, const Magic& magic) {
  return file.size() >= magic.offset && file.substr(magic.offset).starts_with(magic.bytes);
}

bool is_text(std::string_view file) {
  return std::ranges::all_of(
      file, [](unsigned char c) { return c >= ' ' || c == '\n' || c == '\r' || c == '\t'; });
}

std::unexpected<Error> not_a_kernel(const InputFile& file, std::string_view start) {
  std::string_view kind = "data of an unknown kind";
  const auto* found =
      std::ranges::find_if(kOthers, [&](const Magic& magic) { return matches(start, magic); });
  if (found != kOthers.end())
    kind = found->kind;
  else if (is_text(start))
    kind = "a text file";
  return with_hint(
      fail("{}: not a kernel, but {} of {} bytes", file.name(), kind, file.size_bytes()),
      "--kernel takes a Linux bzImage, an ELF kernel with a PVH entry, or a Multiboot kernel, "
      "compressed or not");
}

Result<std::string_view> read_start(const InputFile& file, std::span<std::byte> to) {
  const auto start = to.first(std::min<uint64_t>(to.size(), file.size_bytes()));
  TRY(file.read(0, start));
  return std::string_view(reinterpret_cast<const char*>(start.data()), start.size());
}

Result<bool> is_elf(const InputFile& kernel) {
  std::array<std::byte, kElfMagic.bytes.size()> bytes;
  return matches(TRY(read_start(kernel, bytes)), kElfMagic);
}

// Decompresses the kernel and detects its kind. A kernel that has an entry of Linux or of PVH is
// started there, even if it also has a Multiboot header.
Result<BootFiles> recognized(BootFiles files) {
  files.kernel = TRY(decompressed(std::move(files.kernel)));
  std::array<std::byte, kSniffBytes> bytes;
  const std::string_view text = TRY(read_start(files.kernel, bytes));
  const auto multiboot = find_multiboot_header(std::span(bytes).first(text.size()));
  if (matches(text, kElfMagic)) {
    if (multiboot && !has_pvh_entry(files.kernel)) files.multiboot = multiboot;
  } else if (!matches(text, kSetupHeaderMagic)) {
    if (!multiboot) return not_a_kernel(files.kernel, text);
    files.multiboot = multiboot;
  }
  return files;
}

Result<BootFiles> unpack_recognized(BootFiles files, const KernelCache& cache) {
  if (!files.multiboot && !TRY(is_elf(files.kernel)))
    files.unpacked = TRY(unpack_bzimage(files.kernel, cache));
  return files;
}

std::unexpected<Error> hinted(Error error, const char* option) {
  if (error.hint.empty()) error.hint = fmt::format("check {}", option);
  return std::unexpected(std::move(error));
}

}  // namespace

Result<BootFiles> open_files(const std::string& kernel_path, const std::string& initrd_path,
                             const KernelCache& cache) {
  auto kernel = InputFile::open(kernel_path);
  if (!kernel) return hinted(std::move(kernel).error(), "--kernel");
  BootFiles files = TRY(recognized({*std::move(kernel), std::nullopt, {}, {}}));
  if (files.multiboot) {
    auto modules = open_modules(initrd_path);
    if (!modules) return hinted(std::move(modules).error(), "--initrd");
    files.modules = *std::move(modules);
  } else if (!initrd_path.empty()) {
    auto initrd = InputFile::open(initrd_path);
    if (!initrd) return hinted(std::move(initrd).error(), "--initrd");
    files.initrd = *std::move(initrd);
  }
  return unpack_recognized(std::move(files), cache);
}

Result<BootFiles> unpack(BootFiles files, const KernelCache& cache) {
  return unpack_recognized(TRY(recognized(std::move(files))), cache);
}

Result<BootImage> load(const GuestMemory& memory, const BootFiles& files) {
  if (files.multiboot) return load_multiboot(memory, files);
  return TRY(is_elf(files.kernel)) ? load_elf(memory, files) : load_bzimage(memory, files);
}

}  // namespace wick::boot
