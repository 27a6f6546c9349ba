#include "boot/smbios.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <numeric>

#include "base/hash.h"
#include "boot/memory_map.h"
#include "tests/boot/kernel_files.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kGiB = 1ULL << 30;

SmbiosPlatform platform() {
  return {.name = "web1",
          .uuid = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x86, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc,
                   0xdd, 0xee, 0xff},
          .cpus = 4};
}

uint8_t sum(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), uint8_t{0}, [](uint8_t s, std::byte b) {
    return static_cast<uint8_t>(s + static_cast<uint8_t>(b));
  });
}

struct Found {
  Bytes entry;
  Bytes tables;
};

// As Linux does: by scanning the last 64 KiB of the first megabyte.
Found discover(const GuestMemory& memory) {
  for (uint64_t address = 0xf0000; address < 0x100000; address += 16) {
    const auto entry = *memory.slice({address}, 31);
    if (std::memcmp(entry.data(), "_SM_", 4) != 0) continue;
    const auto tables = *memory.slice({load_le<uint32_t>(entry.subspan(24, 4))},
                                      load_le<uint16_t>(entry.subspan(22, 2)));
    return {{entry.begin(), entry.end()}, {tables.begin(), tables.end()}};
  }
  ADD_FAILURE() << "no entry point";
  return {};
}

// The structures with their strings, by type; as many as the entry point counts.
std::multimap<uint8_t, Bytes> structures(const Found& found) {
  std::multimap<uint8_t, Bytes> result;
  auto at = found.tables.begin();
  for (uint16_t i = load_le<uint16_t>(std::span(found.entry).subspan(28, 2)); i > 0; --i) {
    const auto start = at;
    at += std::to_integer<int>(at[1]);
    while (at[0] != std::byte{0} || at[1] != std::byte{0}) ++at;
    at += 2;
    result.emplace(std::to_integer<uint8_t>(start[0]), Bytes(start, at));
  }
  EXPECT_TRUE(at == found.tables.end());
  return result;
}

TEST(SmbiosTables, AreFoundByScanningWithEveryChecksumRight) {
  const auto memory = memory_of(4 * kMiB);
  ASSERT_TRUE(write_smbios_tables(memory, platform()));
  const Found found = discover(memory);
  EXPECT_EQ(sum(found.entry), 0);
  EXPECT_EQ(sum(std::span(found.entry).subspan(16)), 0);
  EXPECT_EQ(std::memcmp(found.entry.data() + 16, "_DMI_", 5), 0);
  const auto all = structures(found);
  size_t largest = 0;
  for (const auto& [type, structure] : all) largest = std::max(largest, structure.size());
  EXPECT_EQ(load_le<uint16_t>(std::span(found.entry).subspan(8, 2)), largest);
  for (const auto type : std::to_array<uint8_t>({0, 1, 3, 4, 16, 17, 19, 32, 127}))
    EXPECT_EQ(all.count(type), 1u) << int{type};
}

TEST(SmbiosTables, LieWhereTheMemoryMapSaysReserved) {
  const auto memory = memory_of(4 * kMiB);
  EXPECT_THAT(memory_map(memory), testing::Contains(testing::Truly([](const MemoryMapEntry& e) {
                return e.type == MemoryMapEntry::Type::kReserved && e.start <= 0xf0000 &&
                       e.start + e.size_bytes >= 0x100000;
              })));
}

TEST(SmbiosTables, SayHowMemoryLiesOnBothSidesOfTheHole) {
  const auto memory = GuestMemory::create(
      std::vector<GuestMemory::Range>{{{0}, 3 * kGiB}, {{4 * kGiB}, 61 * kGiB}});
  ASSERT_TRUE(memory);
  ASSERT_TRUE(write_smbios_tables(*memory, platform()));
  const auto all = structures(discover(*memory));
  ASSERT_EQ(all.count(19), 2u);
  const auto range = all.find(19);
  EXPECT_EQ(load_le<uint32_t>(std::span(range->second).subspan(4, 4)), 0u);
  EXPECT_EQ(load_le<uint32_t>(std::span(range->second).subspan(8, 4)), (3 * kGiB - 1) >> 10);
  const Bytes& high = std::next(range)->second;
  EXPECT_EQ(load_le<uint32_t>(std::span(high).subspan(4, 4)), 4 * kGiB >> 10);
  // From 32 GiB - 1 MiB on, the size of a device is in the extended field.
  const Bytes& device = all.find(17)->second;
  EXPECT_EQ(load_le<uint16_t>(std::span(device).subspan(12, 2)), 0x7fff);
  EXPECT_EQ(load_le<uint32_t>(std::span(device).subspan(28, 4)), 64u << 10);
}

TEST(SmbiosTables, TakeNamesOfAnyLength) {
  const auto memory = memory_of(4 * kMiB);
  SmbiosPlatform p = platform();
  for (const std::string& name : {std::string(), std::string(100'000, 'x')}) {
    p.name = name;
    ASSERT_TRUE(write_smbios_tables(memory, p));
    const auto all = structures(discover(memory));
    const Bytes& system = all.find(1)->second;
    EXPECT_EQ(std::to_integer<int>(system[7]), name.empty() ? 0 : 3) << "serial number's text";
    EXPECT_LT(system.size(), 200u);
  }
  EXPECT_FALSE(write_smbios_tables(memory_of(kMiB), p));
}

TEST(SmbiosTables, OfADirectStartAreByteForByteWhatTheyWere) {
  const auto memory = memory_of(512 * kMiB);
  ASSERT_TRUE(write_smbios_tables(memory, platform()));
  const auto bytes = *memory.slice({0xf0000}, 0x10000);
  EXPECT_EQ(fnv1a({reinterpret_cast<const char*>(bytes.data()), bytes.size()}),
            0xf6e9'5098'5ea0'c171u);
}

// What SeaBIOS does with the two files (src/fw/biostables.c, smbios_romfile_setup and
// copy_smbios): it checks their sizes, adds structure 0 if there is none, and completes the entry
// point.
Found taken_over_by_firmware(const SmbiosFiles& files) {
  Found found{files.anchor, files.tables};
  std::span<std::byte> entry(found.entry);
  EXPECT_EQ(found.entry.size(), 31u);
  EXPECT_EQ(load_le<uint16_t>(entry.subspan(22, 2)), found.tables.size());
  EXPECT_FALSE(structures(found).contains(0)) << "firmware describes itself";
  const std::string bios = std::string("\0\x18\0\0\1\2\0\xe8\3", 9) + std::string(15, '\0') +
                           std::string("SeaBIOS\0001.16\00004/01/2014\0\0", 25);
  const Bytes type0 = to_bytes(bios);
  found.tables.insert(found.tables.begin(), type0.begin(), type0.end());
  store_le(entry.subspan(22, 2), static_cast<uint16_t>(found.tables.size()));
  store_le(entry.subspan(28, 2),
           static_cast<uint16_t>(load_le<uint16_t>(entry.subspan(28, 2)) + 1));
  store_le(entry.subspan(24, 4), uint32_t{0xf5a00});
  entry[4] = static_cast<std::byte>(std::to_integer<int>(entry[4]) - sum(entry.first(16)));
  entry[21] = static_cast<std::byte>(std::to_integer<int>(entry[21]) - sum(entry.subspan(16)));
  EXPECT_EQ(std::memcmp(entry.data(), "_SM_", 4), 0);
  EXPECT_EQ(std::memcmp(entry.data() + 16, "_DMI_", 5), 0);
  EXPECT_EQ(sum(entry.first(16)), 0);
  EXPECT_EQ(sum(entry.subspan(16, std::to_integer<size_t>(entry[5]) - 16)), 0);
  return found;
}

TEST(SmbiosFilesOfFirmware, AreWhatSeaBiosTakesOver) {
  const auto memory = memory_of(512 * kMiB);
  const Found found = taken_over_by_firmware(make_smbios_files(memory, platform()));
  for (const auto type : std::to_array<uint8_t>({0, 1, 3, 4, 16, 17, 19, 32, 127}))
    EXPECT_EQ(structures(found).count(type), 1u) << int{type};
}

// edk2 checks the sums before it changes anything.
TEST(SmbiosFilesOfFirmware, HaveAnEntryPointThatIsValid) {
  const SmbiosFiles files = make_smbios_files(memory_of(4 * kMiB), platform());
  EXPECT_EQ(sum(files.anchor), 0);
  EXPECT_EQ(sum(std::span(files.anchor).subspan(16)), 0);
  EXPECT_EQ(load_le<uint32_t>(std::span(files.anchor).subspan(24, 4)), 0u);
}

TEST(SmbiosFilesOfFirmware, SayWhatTheTablesOfADirectStartSay) {
  const auto memory = GuestMemory::create(
      std::vector<GuestMemory::Range>{{{0}, 3 * kGiB}, {{4 * kGiB}, 61 * kGiB}});
  ASSERT_TRUE(memory);
  ASSERT_TRUE(write_smbios_tables(*memory, platform()));
  auto direct = structures(discover(*memory));
  direct.erase(0);
  const SmbiosFiles files = make_smbios_files(*memory, platform());
  EXPECT_EQ(structures({files.anchor, files.tables}), direct);
}

// Runs dmidecode (package dmidecode) on a dump of the tables.
std::string dmidecode(Found found) {
  // A dump has the tables at offset 32; the checksums change with that.
  store_le(std::span(found.entry).subspan(24, 4), uint32_t{32});
  for (const auto& [at, from] :
       {std::pair<size_t, size_t>{21, 16}, std::pair<size_t, size_t>{4, 0}}) {
    found.entry[at] = std::byte{0};
    found.entry[at] = static_cast<std::byte>(-sum(std::span(found.entry).subspan(from)));
  }
  found.entry.resize(32);
  std::vector<std::byte> dump = found.entry;
  dump.insert(dump.end(), found.tables.begin(), found.tables.end());
  const fakes::TempDir folder;
  const std::string path =
      folder.write("dump", {reinterpret_cast<const char*>(dump.data()), dump.size()});
  const auto [status, output] =
      fakes::run_shell("PATH=$PATH:/usr/sbin dmidecode --from-dump '" + path + "'");
  EXPECT_EQ(status, 0) << output << "(package dmidecode)";
  EXPECT_THAT(output, testing::Not(testing::AnyOf(HasSubstr("OUT OF SPEC"), HasSubstr("invalid"),
                                                  HasSubstr("broken"), HasSubstr("TRUNCATED"))));
  return output;
}

TEST(SmbiosTables, AreWhatDmidecodeReads) {
  const auto memory = memory_of(512 * kMiB);
  ASSERT_TRUE(write_smbios_tables(memory, platform()));
  EXPECT_THAT(dmidecode(discover(memory)),
              AllOf(HasSubstr("SMBIOS 2.8 present."), HasSubstr("Manufacturer: wick"),
                    HasSubstr("Product Name: Virtual Machine"), HasSubstr("Serial Number: web1"),
                    HasSubstr("UUID: 00112233-4455-8677-8899-aabbccddeeff"),
                    HasSubstr("Wake-up Type: Power Switch"), HasSubstr("Core Count: 4"),
                    HasSubstr("Number Of Devices: 1"), HasSubstr("Size: 512 MB"),
                    HasSubstr("Range Size: 512 MB"), HasSubstr("System is a virtual machine"),
                    HasSubstr("Status: No errors detected"), HasSubstr("End Of Table")));
}

TEST(SmbiosFilesOfFirmware, AreWhatDmidecodeReads) {
  const auto memory = memory_of(512 * kMiB);
  EXPECT_THAT(dmidecode(taken_over_by_firmware(make_smbios_files(memory, platform()))),
              AllOf(HasSubstr("Vendor: SeaBIOS"), HasSubstr("Serial Number: web1"),
                    HasSubstr("Core Count: 4"), HasSubstr("Range Size: 512 MB"),
                    HasSubstr("End Of Table")));
}

}  // namespace
}  // namespace wick::boot
