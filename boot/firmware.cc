#include "boot/firmware.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "boot/input_file.h"

namespace wick::boot {

namespace {

constexpr size_t kFirmwareUnitBytes = 4 << 10;
constexpr size_t kMinFirmwareBytes = 64 << 10;
// The signature of a firmware volume (PI 1.7, volume 3, 3.2.1, EFI_FIRMWARE_VOLUME_HEADER).
constexpr size_t kVolumeSignature = 40;
constexpr uint32_t kFirmwareVolume = 0x4856'465f;  // "_FVH"
constexpr size_t kOptionRomUnitBytes = 512;
constexpr size_t kMaxOptionRomBytes = 128 << 10;  // the space between the screen and the BIOS
// The signature of option ROMs and of boot sectors.
constexpr uint16_t kSignature = 0xaa55;
constexpr size_t kSectorBytes = 512;
constexpr size_t kSectorSignature = 510;
constexpr size_t kPartitionTable = 446;
constexpr size_t kOemName = 3;  // the offset of a FAT volume's OEM name

constexpr std::array kBiosFolders = {"/usr/share/seabios", "/usr/share/qemu",
                                     "/usr/share/qemu-kvm"};

// The code and the variables of OVMF, as Debian and Ubuntu, Fedora, Arch, and openSUSE install
// them. Pairs of 4 MiB come first, because the variables of newer systems do not fit into smaller
// ones.
constexpr std::array<std::array<const char*, 2>, 6> kUefiFiles = {{
    {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
    {"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
    {"/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"},
    {"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
    {"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
    {"/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"},
}};

// mkfs.fat writes boot code that only prints that the volume cannot boot. These are the OEM names
// of volumes with such code.
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

Result<UefiFiles> find_uefi() {
  std::string tried;
  for (const auto& [code, variables] : kUefiFiles) {
    if (::access(code, R_OK) == 0 && ::access(variables, R_OK) == 0)
      return UefiFiles{code, variables};
    tried += tried.empty() ? code : std::string(", ") + code;
  }
  return with_hint(fail("OVMF is not installed (looked for {})", tried),
                   "install it: apt install ovmf");
}

Result<Firmware> open_firmware(const std::string& path, size_t max_bytes) {
  const InputFile file = TRY(InputFile::open(path));
  const uint64_t size = file.size_bytes();
  if (size < kMinFirmwareBytes || size % kFirmwareUnitBytes != 0 || size > max_bytes)
    return with_hint(
        fail("{}: {} bytes are not a firmware image: its size is a multiple of 4 KiB, at least 64 "
             "KiB, and at most {} MiB",
             path, size, max_bytes >> 20),
        "--firmware takes an image such as SeaBIOS' bios-256k.bin; a kernel is given with -k");
  Firmware firmware{.path = path, .image = TRY(read_file(file))};
  firmware.uefi =
      load_le<uint32_t>(std::span(firmware.image).subspan(kVolumeSignature, 4)) == kFirmwareVolume;
  return firmware;
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
