#include "boot/firmware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMaxBytes = 256 << 10;

TEST(OpenFirmware, ReadsTheWholeImage) {
  const fakes::TempDir folder;
  std::string content(128 << 10, 'b');
  content.back() = 'e';
  const auto firmware = open_firmware(folder.write("bios.bin", content), kMaxBytes);
  ASSERT_TRUE(firmware) << firmware.error().message();
  ASSERT_EQ(firmware->image.size(), content.size());
  EXPECT_EQ(std::memcmp(firmware->image.data(), content.data(), content.size()), 0);
}

TEST(OpenFirmware, RefusesWhatCannotBeOne) {
  const fakes::TempDir folder;
  for (const size_t size :
       {size_t{1000}, size_t{32 << 10}, (size_t{64 << 10}) + 1, size_t{320 << 10}}) {
    const auto firmware = open_firmware(folder.write("x", std::string(size, 'x')), kMaxBytes);
    ASSERT_FALSE(firmware);
    EXPECT_THAT(firmware.error().message(), HasSubstr("not a firmware image"));
  }
  EXPECT_FALSE(open_firmware("/nonexistent", kMaxBytes));
}

// OVMF_CODE_4M.fd is no multiple of 64 KiB.
TEST(OpenFirmware, KnowsAVolumeOfUefi) {
  const fakes::TempDir folder;
  std::string content(68 << 10, 'b');
  EXPECT_FALSE(open_firmware(folder.write("bios.bin", content), kMaxBytes)->uefi);
  content.replace(40, 4, "_FVH");
  EXPECT_TRUE(open_firmware(folder.write("OVMF_CODE.fd", content), kMaxBytes)->uefi);
}

TEST(ReadOptionRom, NeedsItsSignature) {
  const fakes::TempDir folder;
  EXPECT_TRUE(read_option_rom(folder.write("vga", "\x55\xaa" + std::string(1022, 'x'))));
  EXPECT_FALSE(read_option_rom(folder.write("vga", std::string(1024, 'x'))));
  EXPECT_FALSE(read_option_rom(folder.write("vga", "\x55\xaa")));
  EXPECT_FALSE(read_option_rom(folder.write("vga", "\x55\xaa" + std::string(1 << 20, 'x'))));
}

std::vector<std::byte> sector(const std::string& code, bool signature = true) {
  std::vector<std::byte> bytes(512);
  std::memcpy(bytes.data(), code.data(), code.size());
  if (signature) bytes[510] = std::byte{0x55}, bytes[511] = std::byte{0xaa};
  return bytes;
}

TEST(BootSector, HasCodeAndSignature) {
  EXPECT_TRUE(is_boot_sector(sector("\xeb\x63\x90")));  // GRUB's first bytes
  EXPECT_FALSE(is_boot_sector(sector("\xeb\x63\x90", false)));
  EXPECT_FALSE(is_boot_sector(sector("")));
  EXPECT_FALSE(is_boot_sector({}));
}

// mkfs.fat writes code that only says that the volume cannot boot.
TEST(BootSector, OfAVolumeThatCannotBootIsNone) {
  EXPECT_FALSE(is_boot_sector(sector("\xeb\x3c\x90mkfs.fat")));
  EXPECT_TRUE(is_boot_sector(sector("\xeb\x3c\x90SYSLINUX")));
}

}  // namespace
}  // namespace wick::boot
