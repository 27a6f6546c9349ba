#include "boot/smbios.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "boot/memory_map.h"
#include "boot/table_blob.h"

namespace wick::boot {

namespace {

constexpr std::string_view kVendor = "wick";
constexpr std::string_view kProduct = "Virtual Machine";
constexpr std::string_view kBiosVersion = "1";
constexpr std::string_view kBiosDate = "01/01/2026";
constexpr size_t kMaxTextBytes = 64;

// Handles are arbitrary but unique (6.1.2).
enum Handle : uint16_t {
  kBios = 0,
  kSystem = 0x100,
  kChassis = 0x300,
  kProcessor = 0x400,
  kMemoryArray = 0x1000,
  kMemoryDevice = 0x1100,
  kFirstMappedRange = 0x1300,
  kBootInformation = 0x2000,
  kEnd = 0x7f00,
};

constexpr uint8_t kOther = 1;  // "other" in several enumerations
constexpr uint8_t kSafe = 3;   // 7.4.2
constexpr uint16_t kNoHandle = 0xfffe;

// A structure consists of the formatted part and its strings, to which the formatted part refers by
// number, from 1 on (6.1.3).
class Structure {
 public:
  Structure(uint8_t type, uint16_t handle) {
    number(type).number<uint8_t>(0).number(handle);  // bytes() replaces the 0 with the length
  }

  template <typename T>
  Structure& number(T value) {
    const size_t at = formatted_.size();
    formatted_.resize(at + sizeof(value));
    store_le(std::span(formatted_).subspan(at), value);
    return *this;
  }
  // Adds a string and its number to the formatted part. An empty string has number 0.
  Structure& text(std::string_view text) {
    if (text.empty()) return number<uint8_t>(0);
    texts_ += text.substr(0, kMaxTextBytes);
    texts_ += '\0';
    return number(++text_count_);
  }

  std::vector<std::byte> bytes() const {
    std::vector<std::byte> all = formatted_;
    all[1] = static_cast<std::byte>(formatted_.size());
    const auto texts = std::as_bytes(std::span(texts_));
    all.insert(all.end(), texts.begin(), texts.end());
    // An empty string ends the strings; if there are none, two zeroes end the structure.
    all.resize(all.size() + (texts_.empty() ? 2 : 1));
    return all;
  }

 private:
  std::vector<std::byte> formatted_;
  std::string texts_;
  uint8_t text_count_ = 0;
};

Structure bios() {  // SMBIOS 2.8, 7.1
  constexpr uint64_t kCharacteristicsNotSupported = 1 << 3;
  constexpr uint8_t kVirtualMachine = 1 << 4;
  return Structure(0, kBios)
      .text(kVendor)
      .text(kBiosVersion)
      .number<uint16_t>(static_cast<uint16_t>(kSmbiosTables.value >> 4))  // the BIOS's segment
      .text(kBiosDate)
      .number<uint8_t>(0)  // size of the BIOS: 64 KiB
      .number<uint64_t>(kCharacteristicsNotSupported)
      .number<uint8_t>(0)
      .number<uint8_t>(kVirtualMachine)
      .number<uint16_t>(0xffff)   // release of the BIOS: none
      .number<uint16_t>(0xffff);  // release of the embedded controller: none
}

Structure system_information(const SmbiosPlatform& platform) {  // SMBIOS 2.8, 7.2
  constexpr uint8_t kPowerSwitch = 6;
  Structure system(1, kSystem);
  system.text(kVendor).text(kProduct).text({}).text(platform.name);
  // The first three groups of the UUID are little-endian (SMBIOS 2.8, 7.2.1).
  constexpr std::array<size_t, 16> kOrder = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  for (const size_t i : kOrder) system.number(platform.uuid[i]);
  return system.number(kPowerSwitch).text({}).text({});
}

Structure chassis() {  // SMBIOS 2.8, 7.4
  constexpr uint8_t kNoSecurity = 3;
  return Structure(3, kChassis)
      .text(kVendor)
      .number(kOther)
      .text({})  // version, serial number, asset tag
      .text({})
      .text({})
      .number(kSafe)  // the states of the boot, the power supply and the temperature
      .number(kSafe)
      .number(kSafe)
      .number(kNoSecurity)
      .number<uint32_t>(0)  // OEM-defined
      .number<uint8_t>(0)   // height
      .number<uint8_t>(0)   // power cords
      .number<uint8_t>(0)   // contained elements, and the length of each
      .number<uint8_t>(0)
      .text({});
}

// The fields that CPUID gives more precisely are 0, empty or "other".
Structure processor(const SmbiosPlatform& platform) {  // SMBIOS 2.8, 7.5
  constexpr uint8_t kCentralProcessor = 3;
  constexpr uint8_t kPopulatedAndEnabled = 0x41;
  constexpr uint16_t k64Bit = 1 << 2;
  constexpr uint16_t kMultiCore = 1 << 3;
  const auto count = static_cast<uint8_t>(std::min(platform.cpus, 0xffu));
  const uint16_t characteristics = platform.cpus > 1 ? k64Bit | kMultiCore : k64Bit;
  Structure cpu(4, kProcessor);
  cpu.text("CPU 0")
      .number(kCentralProcessor)
      .number(kOther)  // processor family
      .text(kVendor)
      .number<uint64_t>(0)  // processor ID (CPUID): not given
      .text({})             // version
      .number<uint8_t>(0)   // voltage
      .number<uint16_t>(0)  // clock, fastest and current speed: unknown
      .number<uint16_t>(0)
      .number<uint16_t>(0)
      .number(kPopulatedAndEnabled)
      .number(kOther)            // upgrade
      .number<uint16_t>(0xffff)  // no handles of caches
      .number<uint16_t>(0xffff)
      .number<uint16_t>(0xffff)
      .text({})  // serial number, asset tag, part number
      .text({})
      .text({});
  for (int i = 0; i < 3; ++i) cpu.number(count);                // cores, enabled cores, threads
  return cpu.number(characteristics).number<uint16_t>(kOther);  // processor family 2
}

Structure memory_array(uint64_t size_bytes) {  // SMBIOS 2.8, 7.17
  constexpr uint8_t kSystemMemory = 3;
  constexpr uint8_t kNoErrorCorrection = 3;
  constexpr uint32_t kSeeExtended = 0x8000'0000;
  const uint64_t kibibytes = size_bytes >> 10;
  const bool extended = kibibytes >= kSeeExtended;
  return Structure(16, kMemoryArray)
      .number(kOther)
      .number(kSystemMemory)
      .number(kNoErrorCorrection)
      .number(extended ? kSeeExtended : static_cast<uint32_t>(kibibytes))
      .number(kNoHandle)
      .number<uint16_t>(1)  // one device
      .number<uint64_t>(extended ? size_bytes : 0);
}

Structure memory_device(uint64_t size_bytes) {  // SMBIOS 2.8, 7.18
  constexpr uint8_t kDimm = 9;
  constexpr uint8_t kRam = 7;
  constexpr uint16_t kSeeExtended = 0x7fff;
  const uint64_t size = mebibytes(size_bytes);
  const bool extended = size >= kSeeExtended;
  return Structure(17, kMemoryDevice)
      .number<uint16_t>(kMemoryArray)
      .number(kNoHandle)
      .number<uint16_t>(0xffff)  // total width, data width: unknown
      .number<uint16_t>(0xffff)
      .number(extended ? kSeeExtended : static_cast<uint16_t>(size))
      .number(kDimm)
      .number<uint8_t>(0)  // not part of a set
      .text("DIMM 0")
      .text({})
      .number(kRam)
      .number<uint16_t>(1 << 1)  // detail: other
      .number<uint16_t>(0)       // speed: unknown
      .text(kVendor)
      .text({})  // serial number, asset tag, part number
      .text({})
      .text({})
      .number<uint8_t>(0)  // rank: unknown
      .number(extended ? static_cast<uint32_t>(size) : uint32_t{0})
      .number<uint16_t>(0)  // configured speed and voltages: unknown
      .number<uint16_t>(0)
      .number<uint16_t>(0)
      .number<uint16_t>(0);
}

Structure mapped_range(size_t index, const GuestMemory::Region& region) {  // SMBIOS 2.8, 7.20
  const uint64_t first = region.start.value;
  const uint64_t last = first + (region.size_bytes - 1);
  constexpr uint32_t kSeeExtended = 0xffff'ffff;
  const bool extended = last >> 10 >= kSeeExtended;
  return Structure(19, static_cast<uint16_t>(kFirstMappedRange + index))
      .number(extended ? kSeeExtended : static_cast<uint32_t>(first >> 10))
      .number(extended ? kSeeExtended : static_cast<uint32_t>(last >> 10))
      .number<uint16_t>(kMemoryArray)
      .number<uint8_t>(1)  // partition width: one memory device
      .number<uint64_t>(extended ? first : 0)
      .number<uint64_t>(extended ? last : 0);
}

Structure boot_information() {  // SMBIOS 2.8, 7.33
  constexpr uint8_t kNoErrors = 0;
  Structure boot(32, kBootInformation);
  for (int i = 0; i < 6; ++i) boot.number<uint8_t>(0);
  return boot.number(kNoErrors);
}

// The entry point (5.2.1), with the intermediate anchor for 16-bit code.
struct [[gnu::packed]] EntryPoint {
  std::array<char, 4> anchor = {'_', 'S', 'M', '_'};
  uint8_t checksum = 0;
  uint8_t length = 31;
  uint8_t major_version = 2;
  uint8_t minor_version = 8;
  uint16_t largest_structure = 0;
  uint8_t revision = 0;
  std::array<uint8_t, 5> unused = {};
  std::array<char, 5> intermediate_anchor = {'_', 'D', 'M', 'I', '_'};
  uint8_t intermediate_checksum = 0;
  uint16_t tables_length = 0;
  uint32_t tables = 0;
  uint16_t structure_count = 0;
  uint8_t bcd_version = 0x28;
};
static_assert(sizeof(EntryPoint) == 31 && offsetof(EntryPoint, intermediate_anchor) == 16);

struct Tables {
  EntryPoint entry;  // complete except for the address and the checksums
  std::vector<std::byte> bytes;
};

Tables concatenate(std::span<const Structure> structures) {
  Tables tables;
  for (const Structure& structure : structures) {
    const auto bytes = structure.bytes();
    tables.bytes.insert(tables.bytes.end(), bytes.begin(), bytes.end());
    tables.entry.largest_structure =
        std::max(uint16_t{tables.entry.largest_structure}, static_cast<uint16_t>(bytes.size()));
  }
  tables.entry.tables_length = static_cast<uint16_t>(tables.bytes.size());
  tables.entry.structure_count = static_cast<uint16_t>(structures.size());
  return tables;
}

// Returns all structures except structure 0.
std::vector<Structure> machine_structures(const GuestMemory& memory,
                                          const SmbiosPlatform& platform) {
  std::vector<Structure> structures = {system_information(platform), chassis(), processor(platform),
                                       memory_array(memory.size_bytes()),
                                       memory_device(memory.size_bytes())};
  for (size_t i = 0; i < memory.regions().size(); ++i)
    structures.push_back(mapped_range(i, memory.regions()[i]));
  structures.push_back(boot_information());
  structures.emplace_back(127, kEnd);
  return structures;
}

void set_address(EntryPoint& entry, GuestAddress tables) {
  entry.tables = static_cast<uint32_t>(tables.value);
  const auto bytes = as_bytes(&entry, sizeof(entry));
  entry.intermediate_checksum =
      static_cast<uint8_t>(checksum(bytes.subspan(offsetof(EntryPoint, intermediate_anchor))));
  entry.checksum = static_cast<uint8_t>(checksum(bytes));
}

}  // namespace

Result<void> write_smbios_tables(const GuestMemory& memory, const SmbiosPlatform& platform) {
  TRY(check_low_memory(memory));
  std::vector<Structure> structures = machine_structures(memory, platform);
  structures.insert(structures.begin(), bios());
  Tables tables = concatenate(structures);
  const GuestAddress start = kSmbiosTables + align_up(sizeof(tables.entry), 16);
  set_address(tables.entry, start);
  TRY(memory.write(kSmbiosTables, tables.entry));
  return memory.write_bytes(start, tables.bytes);
}

SmbiosFiles make_smbios_files(const GuestMemory& memory, const SmbiosPlatform& platform) {
  Tables tables = concatenate(machine_structures(memory, platform));
  set_address(tables.entry, {0});
  const auto entry = as_bytes(&tables.entry, sizeof(tables.entry));
  return {{entry.begin(), entry.end()}, std::move(tables.bytes)};
}

}  // namespace wick::boot
