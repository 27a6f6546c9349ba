#include "boot/firmware.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "boot/input_file.h"

namespace wick::boot {

namespace {

constexpr size_t kFirmwareUnitBytes = 64 << 10;
constexpr size_t kOptionRomUnitBytes = 512;
constexpr size_t kMaxOptionRomBytes = 128 << 10;  // the space between the screen and the BIOS
constexpr uint16_t kSignature = 0xaa55;           // of option ROMs, and of boot sectors
constexpr size_t kSectorBytes = 512;
constexpr size_t kSectorSignature = 510;
constexpr size_t kPartitionTable = 446;
constexpr size_t kOemName = 3;  // of a FAT volume

constexpr std::array kBiosFolders = {"/usr/share/seabios", "/usr/share/qemu",
                                     "/usr/share/qemu-kvm"};

// mkfs.fat leaves code behind that only says that the volume cannot boot.
constexpr std::array<std::string_view, 2> kNoBootOemNames = {"mkfs.fat",
                                                             std::string_view("mkdosfs\0", 8)};

Result<std::string> find(const char* name) {
  std::string tried;
  for (const char* const folder : kBiosFolders) {
    const std::string path = std::string(folder) + '/' + name;
    if (::access(path.c_str(), R_OK) == 0) return path;
    tried += tried.empty() ? folder : std::string(", ") + folder;
  }
  return with_hint(fail("{}: SeaBIOS is not installed (looked in {})", name, tried),
                   "install it: apt install seabios");
}

Result<std::vector<std::byte>> read_file(const InputFile& file) {
  std::vector<std::byte> bytes(file.size_bytes());
  TRY(file.read(0, bytes));
  return bytes;
}

}  // namespace

Result<std::string> find_bios() { return find("bios-256k.bin"); }

Result<std::string> find_vga_bios() { return find("vgabios-stdvga.bin"); }

Result<Firmware> open_firmware(const std::string& path, size_t max_bytes) {
  const InputFile file = TRY(InputFile::open(path));
  const uint64_t size = file.size_bytes();
  if (size == 0 || size % kFirmwareUnitBytes != 0 || size > max_bytes)
    return with_hint(
        fail("{}: {} bytes are not a firmware image: its size is a multiple of 64 KiB, at most {} "
             "MiB",
             path, size, max_bytes >> 20),
        "--firmware takes an image such as SeaBIOS' bios-256k.bin; a kernel is given with -k");
  return Firmware{path, TRY(read_file(file))};
}

Result<std::vector<std::byte>> read_option_rom(const std::string& path) {
  const InputFile file = TRY(InputFile::open(path));
  const auto fits = [&] {
    return file.size_bytes() >= kOptionRomUnitBytes && file.size_bytes() <= kMaxOptionRomBytes;
  };
  std::vector<std::byte> bytes;
  if (fits()) bytes = TRY(read_file(file));
  if (bytes.empty() || load_le<uint16_t>(std::span(bytes).first(2)) != kSignature)
    return with_hint(fail("{}: {} bytes are not an option ROM", path, file.size_bytes()),
                     "install the package seabios again");
  return bytes;
}

bool is_boot_sector(std::span<const std::byte> sector) {
  if (sector.size() < kSectorBytes ||
      load_le<uint16_t>(sector.subspan(kSectorSignature, 2)) != kSignature)
    return false;
  const auto code = sector.first(kPartitionTable);
  if (std::ranges::all_of(code, [](std::byte byte) { return byte == std::byte{0}; })) return false;
  const std::string_view name(reinterpret_cast<const char*>(sector.data()) + kOemName, 8);
  return std::ranges::find(kNoBootOemNames, name) == kNoBootOemNames.end();
}

}  // namespace wick::boot
