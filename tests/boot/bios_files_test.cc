#include "boot/bios_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/bytes.h"
#include "tests/boot/kernel_files.h"

namespace wick::boot {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kGiB = 1 << 30;

std::map<std::string, std::string> files_of(const BiosSettings& settings) {
  std::map<std::string, std::string> files;
  for (const BiosFile& file : make_bios_files(settings)) {
    const std::string content(reinterpret_cast<const char*>(file.content.data()),
                              file.content.size());
    EXPECT_TRUE(files.emplace(file.name, content).second) << file.name;
    EXPECT_LT(file.name.size(), 56u) << "longer than names in fw_cfg";
  }
  return files;
}

// The value of a number of `size_bytes` bytes.
uint64_t number(const std::string& content, size_t size_bytes) {
  EXPECT_EQ(content.size(), size_bytes);
  return load_le<uint64_t>(as_bytes(content.data(), content.size()));
}

TEST(BiosFiles, AreFewWithoutSettings) {
  const auto files = files_of({});
  std::vector<std::string> names;
  for (const auto& [name, content] : files) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("etc/boot-fail-wait", "etc/show-boot-menu", "etc/system-states"));
  EXPECT_EQ(number(files.at("etc/show-boot-menu"), 2), 0u);
  EXPECT_EQ(number(files.at("etc/boot-fail-wait"), 4), 0xffff'ffffu) << "waits for ever";
}

TEST(BiosFiles, HaveTheTimesAndTheSerialConsole) {
  const auto files = files_of({.boot_menu_wait_ms = 2500, .serial_console_port = 0x3f8});
  EXPECT_EQ(number(files.at("etc/show-boot-menu"), 2), 1u);
  EXPECT_EQ(number(files.at("etc/boot-menu-wait"), 2), 2500u);
  EXPECT_EQ(number(files.at("etc/sercon-port"), 2), 0x3f8u);
}

// edk2 supports S3 only if there are six bytes, and the top bit of the fourth is set.
TEST(BiosFiles, SayWhichSleepingStatesThereAre) {
  EXPECT_EQ(files_of({.sleep_type_s5 = 5}).at("etc/system-states"),
            std::string("\x80\0\0\0\0\x85", 6));
  EXPECT_EQ(files_of({.sleep_type_s3 = 1, .sleep_type_s4 = 2, .sleep_type_s5 = 5})
                .at("etc/system-states"),
            std::string("\x80\0\0\x81\x82\x85", 6));
}

TEST(BiosFiles, HaveTheBootOrderAsLines) {
  const BiosSettings settings{.boot_order = {virtio_disk_path(8), virtio_disk_path(9)}};
  EXPECT_EQ(files_of(settings).at("bootorder"), std::string("/pci@i0cf8/scsi@8/disk@0,0\n"
                                                            "/pci@i0cf8/scsi@9/disk@0,0\0",
                                                            54));
}

// Compares a path with a pattern as SeaBIOS does (src/boot.c, glob_prefix): a star is any
// characters but a slash, and the path may go on after a slash.
bool matches(std::string_view pattern, std::string_view path) {
  while (!pattern.empty()) {
    if (pattern[0] == '*') {
      const size_t end =
          path.find_first_of(pattern.size() > 1 ? std::string{'/', pattern[1]} : "/");
      path.remove_prefix(end == path.npos ? path.size() : end);
      pattern.remove_prefix(1);
      continue;
    }
    if (path.empty() || path[0] != pattern[0]) return false;
    pattern.remove_prefix(1);
    path.remove_prefix(1);
  }
  return path.empty() || path[0] == '/';
}

TEST(BootPaths, AreThoseThatSeaBiosLooksFor) {
  EXPECT_TRUE(matches("/pci@i0cf8/*@8", virtio_disk_path(8)));
  EXPECT_TRUE(matches("/pci@i0cf8/*@17", virtio_disk_path(23))) << "slots are hexadecimal";
  EXPECT_FALSE(matches("/pci@i0cf8/*@1", virtio_disk_path(23)));
  EXPECT_TRUE(matches("/pci@i0cf8/*@4/drive@1/disk@0", ide_drive_path(4, 0, 1, 0)));
  EXPECT_TRUE(matches("/pci@i0cf8/*@1,1/drive@0/disk@1", ide_drive_path(1, 1, 0, 1)));
}

// edk2 translates them by their whole text (OvmfPkg/Library/QemuBootOrderLib).
TEST(BootPaths, AreThoseThatEdk2Translates) {
  EXPECT_EQ(virtio_disk_path(23), "/pci@i0cf8/scsi@17/disk@0,0");
  EXPECT_EQ(ide_drive_path(4, 0, 1, 0), "/pci@i0cf8/ide@4/drive@1/disk@0");
}

struct E820Entry {
  uint64_t start;
  uint64_t size_bytes;
  uint32_t type;
  bool operator==(const E820Entry&) const = default;
};

std::vector<E820Entry> entries(const BiosFile& file) {
  EXPECT_EQ(file.name, "etc/e820");
  EXPECT_EQ(file.content.size() % 20, 0u);
  std::vector<E820Entry> result;
  for (std::span<const std::byte> rest = file.content; rest.size() >= 20; rest = rest.subspan(20))
    result.push_back({load_le<uint64_t>(rest.first(8)), load_le<uint64_t>(rest.subspan(8, 8)),
                      load_le<uint32_t>(rest.subspan(16, 4))});
  return result;
}

TEST(E820File, HasTheRamOnBothSidesOfTheHole) {
  const auto memory =
      GuestMemory::create(std::vector<GuestMemory::Range>{{{0}, 3 * kGiB}, {{4 * kGiB}, 5 * kGiB}});
  ASSERT_TRUE(memory);
  EXPECT_THAT(entries(make_e820_file(*memory, {})),
              ElementsAre(E820Entry{0, 3 * kGiB, 1}, E820Entry{4 * kGiB, 5 * kGiB, 1}));
}

TEST(E820File, HasWhatIsReserved) {
  const MemoryMapEntry reserved{0xfffb'c000, 0x4000, MemoryMapEntry::Type::kReserved};
  EXPECT_THAT(entries(make_e820_file(memory_of(64 * kMiB), {&reserved, 1})),
              ElementsAre(E820Entry{0, 64 * kMiB, 1}, E820Entry{0xfffb'c000, 0x4000, 2}));
}

}  // namespace
}  // namespace wick::boot
