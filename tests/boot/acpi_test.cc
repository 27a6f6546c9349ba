#include "boot/acpi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "base/hash.h"
#include "boot/aml.h"
#include "boot/table_blob.h"
#include "tests/boot/kernel_files.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/table_loader.h"
#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

AcpiPlatform platform() {
  AcpiPlatform p;
  p.local_apic_address = 0xfee0'0000;
  p.io_apic_address = 0xfec0'0000;
  p.pm1_event_port = 0x600;
  p.pm1_control_port = 0x604;
  p.pm_timer_port = 0x608;
  p.sleep_type_s5 = 5;
  p.reset_port = 0x606;
  p.reset_value = 1;
  p.rtc = {0x70, 8, 0x32};
  p.pvpanic_port = 0x505;
  p.serials = {{0x3f8, 4}, {0x2f8, 3}};
  p.virtio_mmio = {{0xd000'0000, 4096, 16}, {0xd000'1000, 4096, 17}};
  return p;
}

AcpiPlatform platform_with_pci() {
  AcpiPlatform p = platform();
  p.virtio_mmio.clear();
  p.pci = AcpiPlatform::Pci{.config_port = 0xcf8,
                            .ecam = 0xe000'0000,
                            .window = 0xc000'0000,
                            .window_bytes = 0x1000'0000};
  for (uint8_t slot = 1; slot < 32; ++slot) p.pci->slot_irqs.push_back(16 + slot % 8);
  return p;
}

AcpiPlatform platform_with_hotplug() {
  AcpiPlatform p = platform_with_pci();
  p.gpe0_port = 0x60c;
  p.pci->hotplug_slots = 0x8000'0300;
  p.pci->hotplug_port = 0x620;
  return p;
}

AcpiPlatform platform_of_many_devices() {
  AcpiPlatform p = platform();
  p.cpus = 255;
  p.timer_gsi = 2;
  p.fw_cfg_port = 0x510;
  p.serials = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 5}, {0x2e8, 7}};
  for (uint32_t i = 0; i < 100; ++i) p.virtio_mmio.push_back({0xd001'0000 + i * 4096, 4096, 10});
  return p;
}

// A machine with a screen, which firmware starts.
AcpiPlatform platform_of_a_pc() {
  AcpiPlatform p = platform_with_hotplug();
  p.sleep_type_s3 = 1;
  p.sleep_type_s4 = 2;
  p.has_vga = true;
  p.has_keyboard = true;
  return p;
}

Bytes table_at(const GuestMemory& memory, uint64_t address) {
  const uint32_t length = *memory.read<uint32_t>({address + 4});
  const auto bytes = *memory.slice({address}, length);
  return {bytes.begin(), bytes.end()};
}

std::string signature_of(const Bytes& table) {
  return {reinterpret_cast<const char*>(table.data()), 4};
}

uint8_t sum(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), uint8_t{0}, [](uint8_t s, std::byte b) {
    return static_cast<uint8_t>(s + static_cast<uint8_t>(b));
  });
}

template <typename T>
T field(const Bytes& table, size_t offset) {
  return load_le<T>(std::span(table).subspan(offset, sizeof(T)));
}

// Finds the tables as an operating system does: by scanning for the RSDP.
std::map<std::string, Bytes> discover(const GuestMemory& memory) {
  for (uint64_t address = 0xe0000; address < 0x100000; address += 16) {
    const auto rsdp = *memory.slice({address}, 36);
    if (std::memcmp(rsdp.data(), "RSD PTR ", 8) != 0) continue;
    EXPECT_EQ(sum(rsdp.first(20)), 0);
    EXPECT_EQ(sum(rsdp), 0);
    EXPECT_EQ(rsdp[15], std::byte{2});
    std::map<std::string, Bytes> tables;
    const Bytes xsdt = table_at(memory, load_le<uint64_t>(rsdp.subspan(24)));
    tables["XSDT"] = xsdt;
    for (size_t offset = 36; offset < xsdt.size(); offset += 8) {
      const Bytes table = table_at(memory, field<uint64_t>(xsdt, offset));
      tables[signature_of(table)] = table;
    }
    const Bytes& fadt = tables.at("FACP");
    EXPECT_EQ(field<uint32_t>(fadt, 40), field<uint64_t>(fadt, 140));
    tables["DSDT"] = table_at(memory, field<uint64_t>(fadt, 140));
    tables["FACS"] = table_at(memory, field<uint32_t>(fadt, 36));
    EXPECT_EQ(field<uint32_t>(fadt, 36) % 64, 0u);
    return tables;
  }
  ADD_FAILURE() << "no RSDP";
  return {};
}

TEST(AcpiTables, AreFoundByScanningWithEveryChecksumRight) {
  const auto memory = memory_of(4 * kMiB);
  const auto rsdp = write_acpi_tables(memory, platform());
  ASSERT_TRUE(rsdp) << message(rsdp);
  EXPECT_EQ(rsdp->value, 0xe0000u);
  const auto tables = discover(memory);
  ASSERT_EQ(tables.size(), 5u);
  for (const auto& [name, table] : tables) {
    EXPECT_EQ(signature_of(table), name);
    if (name != "FACS") {
      EXPECT_EQ(sum(table), 0) << name;
    }
  }
}

TEST(AcpiTables, DescribeFixedHardware) {
  const auto memory = memory_of(4 * kMiB);
  ASSERT_TRUE(write_acpi_tables(memory, platform()));
  const Bytes fadt = discover(memory).at("FACP");
  EXPECT_EQ(fadt.size(), 276u);
  EXPECT_EQ(field<uint16_t>(fadt, 46), 9) << "SCI";
  EXPECT_EQ(field<uint32_t>(fadt, 48), 0u) << "no SMI command: always in ACPI mode";
  EXPECT_EQ(field<uint32_t>(fadt, 56), 0x600u);
  EXPECT_EQ(field<uint32_t>(fadt, 64), 0x604u);
  EXPECT_EQ(field<uint32_t>(fadt, 76), 0x608u) << "timer";
  EXPECT_EQ(field<uint8_t>(fadt, 91), 4) << "length of the timer";
  EXPECT_EQ(field<uint8_t>(fadt, 208), 1) << "the timer is a port";
  EXPECT_EQ(field<uint64_t>(fadt, 212), 0x608u);
  EXPECT_EQ(field<uint8_t>(fadt, 108), 0x32) << "century";
  const uint32_t flags = field<uint32_t>(fadt, 112);
  EXPECT_EQ(flags & 1u << 4, 0u) << "power button is fixed hardware";
  EXPECT_NE(flags & 1u << 5, 0u) << "sleep button is not";
  EXPECT_EQ(flags & 1u << 6, 0u) << "the clock's alarm is";
  EXPECT_NE(flags & 1u << 8, 0u) << "the timer has 32 bits";
  EXPECT_NE(flags & 1u << 10, 0u) << "there is a reset register";
  EXPECT_EQ(flags & 1u << 20, 0u) << "not hardware-reduced";
  EXPECT_EQ(field<uint8_t>(fadt, 116), 1) << "reset register is a port";
  EXPECT_EQ(field<uint64_t>(fadt, 120), 0x606u);
  EXPECT_EQ(field<uint8_t>(fadt, 128), 1) << "reset value";
}

// The structures of a MADT, by type.
std::multimap<uint8_t, Bytes> madt_entries(const Bytes& madt) {
  std::multimap<uint8_t, Bytes> entries;
  for (size_t offset = 44; offset + 2 <= madt.size();) {
    const auto length = field<uint8_t>(madt, offset + 1);
    const auto begin = madt.begin() + static_cast<ptrdiff_t>(offset);
    entries.emplace(field<uint8_t>(madt, offset), Bytes(begin, begin + length));
    offset += length;
  }
  return entries;
}

TEST(AcpiTables, DescribeInterruptControllers) {
  const auto memory = memory_of(4 * kMiB);
  AcpiPlatform p = platform();
  p.cpus = 3;
  ASSERT_TRUE(write_acpi_tables(memory, p));
  const Bytes madt = discover(memory).at("APIC");
  EXPECT_EQ(field<uint32_t>(madt, 36), 0xfee0'0000u);
  const auto entries = madt_entries(madt);
  ASSERT_EQ(entries.count(0), 3u);
  EXPECT_EQ(field<uint8_t>(std::prev(entries.upper_bound(0))->second, 3), 2) << "APIC ID";
  ASSERT_EQ(entries.count(1), 1u);
  EXPECT_EQ(field<uint32_t>(entries.find(1)->second, 4), 0xfec0'0000u);
  ASSERT_EQ(entries.count(2), 1u) << "IRQ 0 arrives at pin 0, only the SCI is unusual";
  const Bytes& sci = entries.find(2)->second;
  EXPECT_EQ(field<uint8_t>(sci, 3), 9);
  EXPECT_EQ(field<uint32_t>(sci, 4), 9u);
  EXPECT_EQ(field<uint16_t>(sci, 8), 0x000d) << "active high, level-triggered";
}

TEST(AcpiTables, SayWhereTheTimerArrives) {
  const auto memory = memory_of(4 * kMiB);
  AcpiPlatform p = platform();
  p.timer_gsi = 2;
  ASSERT_TRUE(write_acpi_tables(memory, p));
  const auto entries = madt_entries(discover(memory).at("APIC"));
  ASSERT_EQ(entries.count(2), 2u);
  const Bytes& timer = entries.find(2)->second;
  EXPECT_EQ(field<uint8_t>(timer, 3), 0);
  EXPECT_EQ(field<uint32_t>(timer, 4), 2u);
}

TEST(AcpiTables, SayWherePcisConfigurationSpacesAre) {
  const auto memory = memory_of(4 * kMiB);
  ASSERT_TRUE(write_acpi_tables(memory, platform_with_pci()));
  const auto tables = discover(memory);
  ASSERT_TRUE(tables.contains("MCFG"));
  const Bytes& mcfg = tables.at("MCFG");
  EXPECT_EQ(sum(mcfg), 0);
  ASSERT_EQ(mcfg.size(), 44u + 16u) << "one allocation";
  EXPECT_EQ(field<uint64_t>(mcfg, 44), 0xe000'0000u);
  EXPECT_EQ(field<uint16_t>(mcfg, 52), 0) << "segment";
  EXPECT_EQ(field<uint8_t>(mcfg, 54), 0) << "first bus";
  EXPECT_EQ(field<uint8_t>(mcfg, 55), 0) << "last bus";
}

TEST(AcpiTables, SayNothingOfPciWithoutIt) {
  const auto memory = memory_of(4 * kMiB);
  ASSERT_TRUE(write_acpi_tables(memory, platform()));
  EXPECT_FALSE(discover(memory).contains("MCFG"));
}

TEST(AcpiTables, RefuseMoreThanTheyCanName) {
  const auto memory = memory_of(4 * kMiB);
  AcpiPlatform many_cpus = platform();
  many_cpus.cpus = 256;
  EXPECT_THAT(message(write_acpi_tables(memory, many_cpus)), HasSubstr("256 CPUs"));
  AcpiPlatform many_devices = platform();
  many_devices.virtio_mmio.resize(257);
  EXPECT_THAT(message(write_acpi_tables(memory, many_devices)), HasSubstr("257 virtio-mmio"));
  AcpiPlatform many_ports = platform();
  many_ports.serials.resize(10);
  EXPECT_THAT(message(write_acpi_tables(memory, many_ports)), HasSubstr("10 serial ports"));
  AcpiPlatform many_slots = platform_with_pci();
  many_slots.pci->slot_irqs.resize(32);
  EXPECT_THAT(message(write_acpi_tables(memory, many_slots)), HasSubstr("32 PCI slots"));
  EXPECT_FALSE(write_acpi_tables(memory_of(kMiB), platform()));
}

TEST(AcpiTables, RefuseWhatNoDescriptorHolds) {
  const auto memory = memory_of(4 * kMiB);
  AcpiPlatform p = platform();
  p.serials[1].irq = 16;
  EXPECT_THAT(message(write_acpi_tables(memory, p)), HasSubstr("IRQ 16"));
  p = platform();
  p.rtc.irq = 255;
  EXPECT_THAT(message(write_acpi_tables(memory, p)), HasSubstr("IRQ 255"));
  for (const uint16_t port : std::to_array<uint16_t>({0, 0xfff8, 0xffff})) {
    p = platform_with_pci();
    p.pci->config_port = port;
    EXPECT_THAT(message(write_acpi_tables(memory, p)), HasSubstr("ports")) << port;
  }
  for (const uint32_t window_bytes : {0u, 0x4000'0001u, 0xffff'ffffu}) {
    p = platform_with_pci();
    p.pci->window_bytes = window_bytes;
    EXPECT_THAT(message(write_acpi_tables(memory, p)), HasSubstr("PCI window")) << window_bytes;
  }
}

// iasl, the compiler of the ACPI Component Architecture: the same code that
// Linux reads the tables with. Package acpica-tools.
class Iasl : public ::testing::Test {
 protected:
  std::string run(const std::string& arguments) const { return run_tool("iasl " + arguments); }

  // Returns the output of a tool, which must exit with status 0.
  std::string run_tool(const std::string& tool) const {
    const auto [status, output] = fakes::run_shell("cd '" + folder_.path() + "' && " + tool);
    EXPECT_EQ(status, 0) << tool << "\n" << output;
    return output;
  }

  // Disassembles and recompiles each table, which must not give any message, and returns the
  // source of the DSDT.
  std::string round_trip(const AcpiPlatform& p) const {
    const auto memory = memory_of(4 * kMiB);
    const auto written = write_acpi_tables(memory, p);
    EXPECT_TRUE(written) << message(written);
    return round_trip(memory);
  }

  std::string round_trip(const GuestMemory& memory) const {
    for (const auto& [name, table] : discover(memory)) {
      const std::string bytes(reinterpret_cast<const char*>(table.data()), table.size());
      folder_.write(name + ".dat", bytes);
      EXPECT_THAT(run("-d " + name + ".dat"), Not(HasSubstr("rror")));
      EXPECT_THAT(run(name + ".dsl"), HasSubstr("0 Errors, 0 Warnings, 0 Remarks"));
      // iasl writes the same bytes, except for the header, which names the compiler.
      const size_t header = name == "FACS" ? 0 : 36;
      EXPECT_TRUE(folder_.read(name + ".aml").substr(header) == bytes.substr(header)) << name;
    }
    return folder_.read("DSDT.dsl");
  }

  const fakes::TempDir folder_;
};

// The output of iasl without comments, with runs of blanks reduced to one.
std::string without_comments(const std::string& source) {
  std::string result;
  for (size_t at = 0; at < source.size(); ++at) {
    if (source.compare(at, 2, "//") == 0) at = source.find('\n', at);
    if (source.compare(at, 2, "/*") == 0) at = source.find("*/", at) + 2;
    const bool blank = source[at] == ' ' || source[at] == '\n';
    if (!blank || !result.ends_with(' ')) result += blank ? ' ' : source[at];
  }
  return result;
}

// --- the files of firmware ---

// Links the files as firmware does.
GuestMemory started_by_firmware(const AcpiPlatform& p) {
  auto memory = memory_of(4 * kMiB);
  const auto files = make_acpi_files(p);
  EXPECT_TRUE(files) << message(files);
  if (!files) return memory;
  fakes::TableLoader loader(memory, {{std::string(kAcpiTablesFile), files->tables},
                                     {std::string(kAcpiRsdpFile), files->rsdp}});
  EXPECT_EQ(loader.run(files->loader), "");
  return memory;
}

TEST(AcpiFilesOfFirmware, BecomeTablesThatAreFoundByScanning) {
  for (const AcpiPlatform& p : {platform(), platform_with_pci(), platform_with_hotplug(),
                                platform_of_many_devices(), platform_of_a_pc()}) {
    const auto memory = started_by_firmware(p);
    const auto tables = discover(memory);
    ASSERT_EQ(tables.size(), p.pci ? 6u : 5u);
    for (const auto& [name, table] : tables) {
      EXPECT_EQ(signature_of(table), name);
      if (name != "FACS") {
        EXPECT_EQ(sum(table), 0) << name;
      }
    }
  }
}

// SeaBIOS keeps only the RSDP in the segment 0xf000; the other tables are in high memory.
TEST(AcpiFilesOfFirmware, HaveTheRsdpBelowAMegabyteAndTheRestAbove) {
  const auto memory = memory_of(4 * kMiB);
  const auto files = make_acpi_files(platform_of_a_pc());
  ASSERT_TRUE(files) << message(files);
  fakes::TableLoader loader(memory,
                            {{"etc/acpi/tables", files->tables}, {"etc/acpi/rsdp", files->rsdp}});
  ASSERT_EQ(loader.run(files->loader), "");
  EXPECT_GE(loader.address_of("etc/acpi/rsdp"), 0xf'0000u);
  EXPECT_LT(loader.address_of("etc/acpi/rsdp"), 0x10'0000u);
  EXPECT_GE(loader.address_of("etc/acpi/tables"), 0x20'0000u);
}

// SeaBIOS older than 1.13 and operating systems of ACPI 1.0 know the RSDT only.
TEST(AcpiFilesOfFirmware, HaveAnRsdtWithTheSameTablesAsTheXsdt) {
  const auto memory = started_by_firmware(platform_of_a_pc());
  for (uint64_t address = 0xf0000; address < 0x100000; address += 16) {
    const auto rsdp = *memory.slice({address}, 36);
    if (std::memcmp(rsdp.data(), "RSD PTR ", 8) != 0) continue;
    const Bytes rsdt = table_at(memory, load_le<uint32_t>(rsdp.subspan(16, 4)));
    const Bytes xsdt = table_at(memory, load_le<uint64_t>(rsdp.subspan(24, 8)));
    EXPECT_EQ(signature_of(rsdt), "RSDT");
    EXPECT_EQ(sum(rsdt), 0);
    ASSERT_EQ(rsdt.size(), 36u + 3 * 4);
    ASSERT_EQ(xsdt.size(), 36u + 3 * 8);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(field<uint32_t>(rsdt, 36 + i * 4), field<uint64_t>(xsdt, 36 + i * 8));
    return;
  }
  FAIL() << "no RSDP";
}

// Only addresses and checksums differ between the two ways to the same machine.
TEST(AcpiFilesOfFirmware, SayWhatTheTablesOfADirectStartSay) {
  const AcpiPlatform p = platform_of_a_pc();
  const auto direct = memory_of(4 * kMiB);
  ASSERT_TRUE(write_acpi_tables(direct, p));
  const auto by_firmware = started_by_firmware(p);
  auto expected = discover(direct);
  auto found = discover(by_firmware);
  for (const auto name : {"DSDT", "APIC", "MCFG", "FACS"}) EXPECT_EQ(found[name], expected[name]);
  for (const auto at :
       std::to_array<size_t>({9, 36, 37, 38, 39, 40, 41, 42, 43, 140, 141, 142, 143}))
    found["FACP"][at] = expected["FACP"][at];
  EXPECT_EQ(found["FACP"], expected["FACP"]);
}

TEST(AcpiFilesOfFirmware, RefuseWhatTheTablesRefuse) {
  AcpiPlatform p = platform();
  p.cpus = 256;
  EXPECT_THAT(message(make_acpi_files(p)), HasSubstr("256 CPUs"));
  p = platform();
  p.rtc.irq = 16;
  EXPECT_THAT(message(make_acpi_files(p)), HasSubstr("IRQ 16"));
}

TEST_F(Iasl, AcceptsTheTablesThatFirmwareLinks) {
  for (const AcpiPlatform& p : {platform(), platform_of_a_pc(), platform_of_many_devices()})
    round_trip(started_by_firmware(p));
}

// --- sleep, screen and keyboard ---

// The bytes of wick's first versions. Existing guests of a direct start are not to notice that
// there are other ways to start now. Who changes the tables on purpose changes the digests.
TEST(AcpiTables, OfADirectStartAreByteForByteWhatTheyWere) {
  const auto digest = [](const AcpiPlatform& p) {
    const auto memory = memory_of(4 * kMiB);
    EXPECT_TRUE(write_acpi_tables(memory, p));
    const auto bytes = *memory.slice({0xe0000}, 0x10000);
    return fnv1a({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  };
  EXPECT_EQ(digest(platform()), 0xf032'ebc6'6b7f'fd16u);
  EXPECT_EQ(digest(platform_with_pci()), 0xc4bc'3fdb'1952'007cu);
  EXPECT_EQ(digest(platform_with_hotplug()), 0xbf78'f199'1420'481au);
  EXPECT_EQ(digest(platform_of_many_devices()), 0xaf1c'70f2'6bc6'6518u);
}

TEST_F(Iasl, SeesTheSleepingStatesThatAreOffered) {
  AcpiPlatform p = platform();
  EXPECT_THAT(without_comments(round_trip(p)),
              AllOf(Not(HasSubstr("_S3")), Not(HasSubstr("_S4")), HasSubstr("Name (_S5, ")));
  p.sleep_type_s3 = 1;
  p.sleep_type_s4 = 2;
  EXPECT_THAT(without_comments(round_trip(p)),
              AllOf(HasSubstr("Name (_S3, Package (0x04) { One, One, Zero, Zero })"),
                    HasSubstr("Name (_S4, Package (0x04) { 0x02, 0x02, Zero, Zero })"),
                    HasSubstr("Name (_S5, Package (0x04) { 0x05, 0x05, Zero, Zero })")));
}

TEST(AcpiTables, SayThatTheClockWakesFromS4OnlyIfThereIsS4) {
  const auto memory = memory_of(4 * kMiB);
  AcpiPlatform p = platform();
  p.sleep_type_s3 = 1;
  ASSERT_TRUE(write_acpi_tables(memory, p));
  EXPECT_EQ(field<uint32_t>(discover(memory).at("FACP"), 112) & 1u << 7, 0u);
  p.sleep_type_s4 = 2;
  ASSERT_TRUE(write_acpi_tables(memory, p));
  EXPECT_NE(field<uint32_t>(discover(memory).at("FACP"), 112) & 1u << 7, 0u);
}

// IAPC_BOOT_ARCH (table 5.11): legacy devices, 8042, VGA not present.
TEST(AcpiTables, SayWhetherThereAreAScreenAndAKeyboard) {
  const auto memory = memory_of(4 * kMiB);
  const auto boot_architecture = [&](bool vga, bool keyboard) {
    AcpiPlatform p = platform();
    p.has_vga = vga;
    p.has_keyboard = keyboard;
    EXPECT_TRUE(write_acpi_tables(memory, p));
    return field<uint16_t>(discover(memory).at("FACP"), 109);
  };
  EXPECT_EQ(boot_architecture(false, false), 0b101);
  EXPECT_EQ(boot_architecture(true, false), 0b001);
  EXPECT_EQ(boot_architecture(false, true), 0b111);
  EXPECT_EQ(boot_architecture(true, true), 0b011);
}

TEST_F(Iasl, SeesTheKeyboardAndTheMouse) {
  AcpiPlatform p = platform();
  EXPECT_THAT(round_trip(p), AllOf(Not(HasSubstr("PNP0303")), Not(HasSubstr("PNP0F13"))));
  p.has_keyboard = true;
  const std::string source = without_comments(round_trip(p));
  EXPECT_THAT(source,
              HasSubstr("Name (_HID, EisaId (\"PNP0303\") ) Name (_CRS, ResourceTemplate () { "
                        "IO (Decode16, 0x0060, 0x0060, 0x01, 0x01, ) "
                        "IO (Decode16, 0x0064, 0x0064, 0x01, 0x01, ) IRQNoFlags () {1} })"));
  EXPECT_THAT(source, HasSubstr("Name (_HID, EisaId (\"PNP0F13\") ) Name (_CRS, "
                                "ResourceTemplate () { IRQNoFlags () {12} })"));
}

// SeaBIOS (src/fw/biostables.c, acpi_dsdt_find_eisaid) compares the bytes after Name (_HID, and
// leaves the controller alone if none match.
TEST(AcpiFilesOfFirmware, HaveTheKeyboardInTheFormThatSeaBiosLooksFor) {
  const auto has_keyboard = [](const AcpiPlatform& p) {
    const Bytes tables = make_acpi_files(p)->tables;
    const Bytes wanted = to_bytes("\x08_HID\x0c\x41\xd0\x03\x03");
    return std::search(tables.begin(), tables.end(), wanted.begin(), wanted.end()) != tables.end();
  };
  EXPECT_TRUE(has_keyboard(platform_of_a_pc()));
  EXPECT_FALSE(has_keyboard(platform_with_pci()));
}

// Linux writes the vector by the address in the FADT, and the machine reads it after S3.
TEST(AcpiTables, KeepTheWakingVectorOfTheOperatingSystem) {
  const auto memory = memory_of(4 * kMiB);
  ASSERT_TRUE(write_acpi_tables(memory, platform_of_a_pc()));
  const auto facs = field<uint32_t>(discover(memory).at("FACP"), 36);
  EXPECT_EQ(facs, kAcpiFacs.value);
  EXPECT_EQ(read_waking_vectors(memory)->firmware_waking_vector, 0u);
  ASSERT_TRUE(memory.write({facs + 12}, uint32_t{0x9'a000}));
  ASSERT_TRUE(memory.write({facs + 24}, uint64_t{0x1'2345'6789}));
  EXPECT_EQ(read_waking_vectors(memory)->firmware_waking_vector, 0x9'a000u);
  EXPECT_EQ(read_waking_vectors(memory)->x_firmware_waking_vector, 0x1'2345'6789u);
}

TEST_F(Iasl, AcceptsEveryTable) {
  const std::string source = round_trip(platform());
  EXPECT_THAT(source, HasSubstr("Name (_S5, Package (0x04)"));
  EXPECT_THAT(source, HasSubstr("EisaId (\"PNP0501\")"));
  EXPECT_THAT(source, HasSubstr("EisaId (\"PNP0B00\")"));
  EXPECT_THAT(source, HasSubstr("\"LNRO0005\""));
  EXPECT_THAT(source, HasSubstr("\"QEMU0001\""));
  EXPECT_THAT(source, HasSubstr("0x0505,             // Range Minimum"));
  EXPECT_THAT(source, HasSubstr("Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive"));
  EXPECT_THAT(source, HasSubstr("0xD0001000,         // Address Base"));
}

TEST_F(Iasl, AcceptsMachinesOfManyDevices) { round_trip(platform_of_many_devices()); }

TEST_F(Iasl, SeesTheFirmwareConfigurationDevice) {
  AcpiPlatform p = platform();
  EXPECT_THAT(round_trip(p), Not(HasSubstr("QEMU0002")));
  p.fw_cfg_port = 0x510;
  const std::string source = without_comments(round_trip(p));
  EXPECT_THAT(source, HasSubstr("Name (_HID, \"QEMU0002\") Name (_STA, 0x0B) Name (_CRS, "
                                "ResourceTemplate () { IO (Decode16, 0x0510, 0x0510, 0x01, 0x0C"));
}

TEST_F(Iasl, AcceptsAMachineWithoutDevices) {
  AcpiPlatform p = platform();
  p.serials.clear();
  p.virtio_mmio.clear();
  p.pvpanic_port = 0;
  EXPECT_THAT(round_trip(p), Not(HasSubstr("QEMU0001")));
}

TEST_F(Iasl, SeesThePciRootWithItsWindows) {
  const std::string source = without_comments(round_trip(platform_with_pci()));
  EXPECT_THAT(source, HasSubstr("Name (_HID, EisaId (\"PNP0A08\") )"));
  EXPECT_THAT(source, HasSubstr("Name (_CID, EisaId (\"PNP0A03\") )"));
  EXPECT_THAT(source, HasSubstr("WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, "
                                "0x0000, 0x0000, 0x0000, 0x0000, 0x0001, ,, )"));
  EXPECT_THAT(source, HasSubstr("IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08, )"));
  EXPECT_THAT(source, HasSubstr("WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, "
                                "EntireRange, 0x0000, 0x0000, 0x0CF7, 0x0000, 0x0CF8, ,, , "));
  EXPECT_THAT(source, HasSubstr("0x0000, 0x0D00, 0xFFFF, 0x0000, 0xF300, ,, , "));
  EXPECT_THAT(source, HasSubstr("DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, "
                                "NonCacheable, ReadWrite, 0x00000000, 0xC0000000, 0xCFFFFFFF, "
                                "0x00000000, 0x10000000, ,, , "));
}

TEST_F(Iasl, SeesAnInterruptForEachPciSlot) {
  const std::string source = without_comments(round_trip(platform_with_pci()));
  ASSERT_THAT(source, HasSubstr("Name (_PRT, Package (0x1F)"));
  for (int slot = 1; slot < 32; ++slot)
    EXPECT_THAT(source,
                HasSubstr(fmt::format("Package (0x04) {{ 0x{:04X}FFFF, Zero, Zero, 0x{:X} }}", slot,
                                      16 + slot % 8)));
}

TEST_F(Iasl, SeesThatThePciRootAnswersWhatTheSystemMayControl) {
  const std::string source = without_comments(round_trip(platform_with_pci()));
  EXPECT_THAT(source, HasSubstr("Method (_OSC, 4, Serialized)"));
  EXPECT_THAT(source, HasSubstr("ToUUID (\"33db4d5b-1ff7-401c-9657-7441c03dd766\")"));
  EXPECT_THAT(source, HasSubstr("CreateDWordField (Arg3, 0x08, CDW3)"));
}

// acpiexec, of the same package, runs methods as Linux does.
TEST_F(Iasl, GrantsOnlyTheControlThatThereIs) {
  round_trip(platform_with_pci());
  const auto osc = [&](const std::string& uuid, int revision, int count, const std::string& words) {
    const std::string output =
        run_tool(fmt::format("acpiexec -b 'execute \\_SB.PCI0._OSC ({}) {} {} ({})' DSDT.aml", uuid,
                             revision, count, words));
    EXPECT_THAT(output, Not(HasSubstr("Error")));
    const size_t start = output.find("0000: ") + 6;
    return output.substr(start, output.find("  ", start) - start);
  };
  const std::string pci = "5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66";
  // Double words: query and results, supported features, requested control.
  EXPECT_EQ(osc(pci, 1, 3, "01 00 00 00 1F 00 00 00 FF 03 00 00"),
            "11 00 00 00 1F 00 00 00 10 00 00 00");
  EXPECT_EQ(osc(pci, 1, 3, "00 00 00 00 1F 00 00 00 10 00 00 00"),
            "00 00 00 00 1F 00 00 00 10 00 00 00");
  EXPECT_EQ(osc(pci, 1, 3, "00 00 00 00 1F 00 00 00 00 00 00 00"),
            "00 00 00 00 1F 00 00 00 00 00 00 00");
  EXPECT_EQ(osc(pci, 2, 3, "00 00 00 00 1F 00 00 00 10 00 00 00"),
            "08 00 00 00 1F 00 00 00 10 00 00 00")
      << "another revision";
  EXPECT_EQ(osc(pci, 1, 2, "00 00 00 00 1F 00 00 00"), "00 00 00 00 1F 00 00 00") << "short";
  EXPECT_EQ(osc("00 " + pci.substr(3), 1, 3, "00 00 00 00 1F 00 00 00 10 00 00 00"),
            "04 00 00 00 1F 00 00 00 10 00 00 00")
      << "another interface";
}

TEST_F(Iasl, SeesTheSlotsThatCanBeHotPlugged) {
  const std::string source = without_comments(round_trip(platform_with_hotplug()));
  EXPECT_THAT(source, HasSubstr("OperationRegion (HPRG, SystemIO, 0x0620, 0x0C)"));
  EXPECT_THAT(source, HasSubstr("Field (HPRG, DWordAcc, NoLock, Preserve) { UP, 32, DOWN, 32, "
                                "EJCT, 32 }"));
  EXPECT_THAT(source, HasSubstr("Device (S09) { Name (_ADR, 0x00090000) Name (_SUN, 0x09) "
                                "Method (_EJ0, 1, Serialized) { EJCT = 0x0200 } }"));
  EXPECT_THAT(source, HasSubstr("Device (S1F)"));
  EXPECT_THAT(source, Not(HasSubstr("Device (S0A)")));
  EXPECT_THAT(source, HasSubstr("If ((Arg0 & 0x80000000)) { Notify (S1F, Arg1) }"));
  EXPECT_THAT(source, HasSubstr("Scope (_GPE) { Method (_E00, 0, Serialized) { "
                                "\\_SB.PCI0.SCAN () } }"));
}

// acpiexec's ports read as zeroes, so SCAN is run for its errors, and TELL for its notifications.
TEST_F(Iasl, TellsOfTheSlotsThatHaveChanged) {
  round_trip(platform_with_hotplug());
  const auto run_method = [&](const std::string& call) {
    return run_tool("acpiexec -b 'execute " + call + "' DSDT.aml");
  };
  EXPECT_THAT(run_method("\\_GPE._E00"), Not(HasSubstr("Error")));
  const std::string told = run_method("\\_SB.PCI0.TELL 0x80000100 3");
  EXPECT_THAT(told, Not(HasSubstr("Error")));
  EXPECT_THAT(told, HasSubstr("[S08_]"));
  EXPECT_THAT(told, HasSubstr("[S1F_]"));
  EXPECT_THAT(told, Not(HasSubstr("[S09_]")));
  EXPECT_THAT(run_method("\\_SB.PCI0.S08._EJ0 1"), Not(HasSubstr("Error")));
}

TEST(AcpiTables, SayWhereGeneralPurposeEventsAre) {
  const auto memory = memory_of(4 * kMiB);
  ASSERT_TRUE(write_acpi_tables(memory, platform_with_hotplug()));
  const Bytes fadt = discover(memory).at("FACP");
  EXPECT_EQ(field<uint32_t>(fadt, 80), 0x60cu);
  EXPECT_EQ(field<uint8_t>(fadt, 92), 2) << "bytes";
  EXPECT_EQ(field<uint8_t>(fadt, 220), 1) << "ports";
  EXPECT_EQ(field<uint8_t>(fadt, 221), 16) << "bits";
  EXPECT_EQ(field<uint64_t>(fadt, 224), 0x60cu);
  ASSERT_TRUE(write_acpi_tables(memory, platform_with_pci()));
  EXPECT_EQ(field<uint8_t>(discover(memory).at("FACP"), 92), 0) << "there are none";
}

TEST(AcpiTables, RefuseHotPlugOfTheHostBridge) {
  const auto memory = memory_of(4 * kMiB);
  AcpiPlatform p = platform_with_hotplug();
  p.pci->hotplug_slots = 0xff01;
  EXPECT_THAT(message(write_acpi_tables(memory, p)), HasSubstr("hot-plug of slot 0"));
  p = platform_with_hotplug();
  p.pci->hotplug_event = 8;
  EXPECT_THAT(message(write_acpi_tables(memory, p)), HasSubstr("event 8"));
}

// Linux uses the configuration spaces only where a PNP0C02 has them.
TEST_F(Iasl, SeesTheConfigurationSpacesReserved) {
  const std::string source = without_comments(round_trip(platform_with_pci()));
  EXPECT_THAT(source, HasSubstr("Name (_HID, EisaId (\"PNP0C02\") ) Name (_CRS, ResourceTemplate "
                                "() { Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000, ) })"));
  EXPECT_THAT(folder_.read("MCFG.dsl"), HasSubstr("Base Address : 00000000E0000000"));
}

TEST(Aml, IntegersTakeTheirShortestForm) {
  using aml::integer;
  EXPECT_EQ(integer(0), aml::Bytes({0x00}));
  EXPECT_EQ(integer(1), aml::Bytes({0x01}));
  EXPECT_EQ(integer(2), aml::Bytes({0x0a, 2}));
  EXPECT_EQ(integer(0x100), aml::Bytes({0x0b, 0x00, 0x01}));
  EXPECT_EQ(integer(0x10000), aml::Bytes({0x0c, 0, 0, 1, 0}));
  EXPECT_EQ(integer(1ULL << 32), aml::Bytes({0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(Aml, PackageLengthsCountThemselves) {
  // A scope's content is its four-character name and its terms.
  const auto length_bytes = [](size_t content) {
    const std::array<aml::Bytes, 1> term = {aml::Bytes(content - 4, 0xa3)};
    const aml::Bytes scope = aml::scope("_SB_", term);
    return aml::Bytes(scope.begin() + 1, scope.end() - static_cast<ptrdiff_t>(content));
  };
  EXPECT_EQ(length_bytes(62), aml::Bytes({63}));
  EXPECT_EQ(length_bytes(63), aml::Bytes({0x41, 0x04}));          // 65
  EXPECT_EQ(length_bytes(4093), aml::Bytes({0x4f, 0xff}));        // 4095
  EXPECT_EQ(length_bytes(4094), aml::Bytes({0x81, 0x00, 0x01}));  // 4097
  EXPECT_EQ(length_bytes((1 << 20) - 3), aml::Bytes({0xc1, 0x00, 0x00, 0x01}));
}

TEST(Aml, EisaIdsAreCompressed) {
  EXPECT_EQ(aml::eisa_id("PNP0501"), aml::Bytes({0x0c, 0x41, 0xd0, 0x05, 0x01}));
  EXPECT_EQ(aml::eisa_id("PNP0B00"), aml::Bytes({0x0c, 0x41, 0xd0, 0x0b, 0x00}));
}

}  // namespace
}  // namespace wick::boot
