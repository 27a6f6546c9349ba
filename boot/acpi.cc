#include "boot/acpi.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/bytes.h"
#include "boot/dsdt.h"
#include "boot/memory_map.h"

namespace wick::boot {

namespace {

// 5.2.6 System Description Table Header.
struct [[gnu::packed]] TableHeader {
  std::array<char, 4> signature;
  uint32_t length = 0;
  uint8_t revision = 0;
  uint8_t checksum = 0;
  std::array<char, 6> oem_id = {'W', 'I', 'C', 'K', ' ', ' '};
  std::array<char, 8> oem_table_id = {'W', 'I', 'C', 'K', 'V', 'M', ' ', ' '};
  uint32_t oem_revision = 1;
  std::array<char, 4> creator_id = {'W', 'I', 'C', 'K'};
  uint32_t creator_revision = 1;
};
static_assert(sizeof(TableHeader) == 36);

// 5.2.5.3 Root System Description Pointer.
struct [[gnu::packed]] Rsdp {
  std::array<char, 8> signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  uint8_t checksum = 0;  // of the first 20 bytes
  std::array<char, 6> oem_id = {'W', 'I', 'C', 'K', ' ', ' '};
  uint8_t revision = 2;
  uint32_t rsdt = 0;  // none: the XSDT has replaced it since ACPI 2.0
  uint32_t length = 36;
  uint64_t xsdt = 0;
  uint8_t extended_checksum = 0;
  std::array<uint8_t, 3> reserved = {};
};
static_assert(sizeof(Rsdp) == 36 && offsetof(Rsdp, length) == 20);

// 5.2.3.2 Generic Address Structure.
struct [[gnu::packed]] GenericAddress {
  uint8_t space = 0;  // 1: I/O ports
  uint8_t bit_width = 0;
  uint8_t bit_offset = 0;
  uint8_t access_size = 0;  // 1: byte, 2: word, 3: double word
  uint64_t address = 0;
};
static_assert(sizeof(GenericAddress) == 12);

// 5.2.9 Fixed ACPI Description Table, revision 6.5.
struct [[gnu::packed]] Fadt {
  // Fixed feature flags (table 5.10).
  static constexpr uint32_t kWbinvd = 1 << 0;
  static constexpr uint32_t kProcC1 = 1 << 2;
  static constexpr uint32_t kNoSleepButton = 1 << 5;
  static constexpr uint32_t kTimer32Bits = 1 << 8;
  static constexpr uint32_t kResetRegister = 1 << 10;
  // IA-PC boot architecture flags (table 5.11).
  static constexpr uint16_t kLegacyDevices = 1 << 0;
  static constexpr uint16_t kVgaNotPresent = 1 << 2;
  // Latencies above the limit mean that the state is not supported (table 5.9).
  static constexpr uint16_t kNoC2 = 101;
  static constexpr uint16_t kNoC3 = 1001;

  TableHeader header{.signature = {'F', 'A', 'C', 'P'}, .revision = 6};
  uint32_t facs = 0;
  uint32_t dsdt = 0;
  uint8_t reserved0 = 0;
  uint8_t preferred_profile = 0;
  uint16_t sci_interrupt = 0;
  uint32_t smi_command = 0;  // 0: the machine is always in ACPI mode
  uint8_t acpi_enable = 0;
  uint8_t acpi_disable = 0;
  uint8_t s4bios_request = 0;
  uint8_t pstate_control = 0;
  uint32_t pm1a_event = 0;
  uint32_t pm1b_event = 0;
  uint32_t pm1a_control = 0;
  uint32_t pm1b_control = 0;
  uint32_t pm2_control = 0;
  uint32_t pm_timer = 0;
  uint32_t gpe0 = 0;
  uint32_t gpe1 = 0;
  uint8_t pm1_event_length = 4;
  uint8_t pm1_control_length = 2;
  uint8_t pm2_control_length = 0;
  uint8_t pm_timer_length = 4;
  uint8_t gpe0_length = 0;
  uint8_t gpe1_length = 0;
  uint8_t gpe1_base = 0;
  uint8_t cst_control = 0;
  uint16_t c2_latency = kNoC2;
  uint16_t c3_latency = kNoC3;
  uint16_t flush_size = 0;
  uint16_t flush_stride = 0;
  uint8_t duty_offset = 0;
  uint8_t duty_width = 0;
  uint8_t day_alarm = 0;
  uint8_t month_alarm = 0;
  uint8_t century = 0;
  uint16_t boot_architecture = kLegacyDevices | kVgaNotPresent;
  uint8_t reserved1 = 0;
  // The power button and the RTC alarm are fixed hardware, so PWR_BUTTON (bit 4) and FIX_RTC
  // (bit 6) are clear.
  uint32_t flags = kWbinvd | kProcC1 | kNoSleepButton | kTimer32Bits | kResetRegister;
  GenericAddress reset_register;
  uint8_t reset_value = 0;
  uint16_t arm_boot_architecture = 0;
  uint8_t minor_revision = 5;
  uint64_t x_facs = 0;  // must be 0 when the 32-bit field is used
  uint64_t x_dsdt = 0;
  GenericAddress x_pm1a_event;
  GenericAddress x_pm1b_event;
  GenericAddress x_pm1a_control;
  GenericAddress x_pm1b_control;
  GenericAddress x_pm2_control;
  GenericAddress x_pm_timer;
  GenericAddress x_gpe0;
  GenericAddress x_gpe1;
  GenericAddress sleep_control;
  GenericAddress sleep_status;
  uint64_t hypervisor_vendor = 0;
};
static_assert(sizeof(Fadt) == 276 && offsetof(Fadt, pm1a_event) == 56 &&
              offsetof(Fadt, century) == 108 && offsetof(Fadt, flags) == 112 &&
              offsetof(Fadt, reset_register) == 116 && offsetof(Fadt, x_dsdt) == 140);

// 5.2.10 Firmware ACPI Control Structure; it has no checksum.
struct [[gnu::packed]] Facs {
  std::array<char, 4> signature = {'F', 'A', 'C', 'S'};
  uint32_t length = 64;
  std::array<uint8_t, 24> unused0 = {};  // waking vector and global lock
  uint8_t version = 2;
  std::array<uint8_t, 31> unused1 = {};
};
static_assert(sizeof(Facs) == 64 && offsetof(Facs, version) == 32);

// 5.2.12 Multiple APIC Description Table, and the structures in it.
struct [[gnu::packed]] Madt {
  static constexpr uint32_t kPcatCompatible = 1 << 0;  // the machine also has 8259s

  TableHeader header{.signature = {'A', 'P', 'I', 'C'}, .revision = 5};
  uint32_t local_apic_address = 0;
  uint32_t flags = kPcatCompatible;
};
static_assert(sizeof(Madt) == 44);

struct [[gnu::packed]] MadtLocalApic {  // 5.2.12.2
  uint8_t type = 0;
  uint8_t length = 8;
  uint8_t processor_uid = 0;
  uint8_t apic_id = 0;
  uint32_t flags = 1;  // enabled
};
static_assert(sizeof(MadtLocalApic) == 8);

struct [[gnu::packed]] MadtIoApic {  // 5.2.12.3
  uint8_t type = 1;
  uint8_t length = 12;
  uint8_t id = 0;  // KVM's IO-APIC has ID 0
  uint8_t reserved = 0;
  uint32_t address = 0;
  uint32_t gsi_base = 0;
};
static_assert(sizeof(MadtIoApic) == 12);

struct [[gnu::packed]] MadtSourceOverride {  // 5.2.12.5
  static constexpr uint16_t kActiveHigh = 1;
  static constexpr uint16_t kLevelTriggered = 3 << 2;

  uint8_t type = 2;
  uint8_t length = 10;
  uint8_t bus = 0;  // ISA
  uint8_t irq = 0;
  uint32_t gsi = 0;
  uint16_t flags = 0;  // 0: conforms to the bus
};
static_assert(sizeof(MadtSourceOverride) == 10);

struct [[gnu::packed]] MadtLocalApicNmi {  // 5.2.12.7
  uint8_t type = 4;
  uint8_t length = 6;
  uint8_t processor_uid = 0xff;  // all
  uint16_t flags = 0;
  uint8_t lint = 1;
};
static_assert(sizeof(MadtLocalApicNmi) == 6);

// PCI Firmware Specification 3.3, 4.1.2: MCFG and its only allocation.
struct [[gnu::packed]] Mcfg {
  TableHeader header{.signature = {'M', 'C', 'F', 'G'}, .revision = 1};
  uint64_t reserved0 = 0;
  uint64_t base = 0;
  uint16_t segment = 0;
  uint8_t first_bus = 0;
  uint8_t last_bus = 0;
  uint32_t reserved1 = 0;
};
static_assert(sizeof(Mcfg) == 60);

using Table = std::vector<std::byte>;

template <typename T>
requires std::is_trivially_copyable_v<T>
void append(Table& table, const T& structure) {
  const auto bytes = as_bytes(&structure, sizeof(structure));
  table.insert(table.end(), bytes.begin(), bytes.end());
}

// The byte to add so that the sum of all bytes is 0; the checksum field must be 0 before.
std::byte checksum(std::span<const std::byte> bytes) {
  return static_cast<std::byte>(-std::accumulate(
      bytes.begin(), bytes.end(), 0, [](int sum, std::byte b) { return sum + int(b); }));
}

// Allocates space for tables, one after the other, and writes them.
class TableArea {
 public:
  explicit TableArea(const GuestMemory& memory) : memory_(memory) {}

  // Fills in the length and the checksum of the header.
  Result<GuestAddress> put_table(Table table) {
    store_le(std::span(table).subspan(offsetof(TableHeader, length), 4),
             static_cast<uint32_t>(table.size()));
    table[offsetof(TableHeader, checksum)] = checksum(table);
    return put(table, 16);
  }

  Result<GuestAddress> put(std::span<const std::byte> bytes, uint64_t alignment) {
    const uint64_t start = align_up(next_, alignment);
    if (bytes.size() > kAcpiTables.value + kAcpiTablesBytes - start)
      return fail("ACPI tables: {} bytes do not fit at {:#x}", bytes.size(), start);
    TRY(memory_.write_bytes({start}, bytes));
    next_ = start + bytes.size();
    return GuestAddress{start};
  }

 private:
  const GuestMemory& memory_;
  uint64_t next_ = kAcpiTables.value + 64;  // behind the RSDP
};

Table dsdt(std::span<const uint8_t> terms) {
  Table table;
  append(table, TableHeader{.signature = {'D', 'S', 'D', 'T'}, .revision = 2});
  const auto bytes = std::as_bytes(terms);
  table.insert(table.end(), bytes.begin(), bytes.end());
  return table;
}

Table fadt(const AcpiPlatform& platform, GuestAddress facs, GuestAddress dsdt_address) {
  const auto ports = [](uint16_t port, uint8_t size_bytes, uint8_t access_size) {
    return GenericAddress{.space = 1,
                          .bit_width = static_cast<uint8_t>(size_bytes * 8),
                          .bit_offset = 0,
                          .access_size = access_size,
                          .address = port};
  };
  Fadt fadt;
  fadt.facs = static_cast<uint32_t>(facs.value);
  fadt.dsdt = static_cast<uint32_t>(dsdt_address.value);
  fadt.x_dsdt = dsdt_address.value;
  fadt.sci_interrupt = platform.sci_irq;
  fadt.pm1a_event = platform.pm1_event_port;
  fadt.pm1a_control = platform.pm1_control_port;
  fadt.pm_timer = platform.pm_timer_port;
  fadt.x_pm_timer = ports(platform.pm_timer_port, fadt.pm_timer_length, 3);
  fadt.x_pm1a_event = ports(platform.pm1_event_port, fadt.pm1_event_length, 2);
  fadt.x_pm1a_control = ports(platform.pm1_control_port, fadt.pm1_control_length, 2);
  if (platform.gpe0_port != 0) {
    constexpr uint8_t kGpe0Bytes = 2;
    fadt.gpe0 = platform.gpe0_port;
    fadt.gpe0_length = kGpe0Bytes;
    fadt.x_gpe0 = ports(platform.gpe0_port, kGpe0Bytes, 1);
  }
  fadt.reset_register = ports(platform.reset_port, 1, 1);
  fadt.reset_value = platform.reset_value;
  fadt.century = platform.rtc.century;
  Table table;
  append(table, fadt);
  return table;
}

Table madt(const AcpiPlatform& platform) {
  Table table;
  Madt madt;
  madt.local_apic_address = platform.local_apic_address;
  append(table, madt);
  for (uint32_t cpu = 0; cpu < platform.cpus; ++cpu) {
    MadtLocalApic local_apic;
    local_apic.processor_uid = local_apic.apic_id = static_cast<uint8_t>(cpu);
    append(table, local_apic);
  }
  MadtIoApic io_apic;
  io_apic.address = platform.io_apic_address;
  append(table, io_apic);
  if (platform.timer_gsi != 0) {
    MadtSourceOverride timer;
    timer.gsi = platform.timer_gsi;
    append(table, timer);
  }
  // Without an override the SCI would be active low.
  MadtSourceOverride sci;
  sci.irq = platform.sci_irq;
  sci.gsi = platform.sci_irq;
  sci.flags = MadtSourceOverride::kActiveHigh | MadtSourceOverride::kLevelTriggered;
  append(table, sci);
  append(table, MadtLocalApicNmi{});
  return table;
}

Table mcfg(const AcpiPlatform::Pci& pci) {
  Mcfg mcfg;
  mcfg.base = pci.ecam;
  Table table;
  append(table, mcfg);
  return table;
}

}  // namespace

Result<GuestAddress> write_acpi_tables(const GuestMemory& memory, const AcpiPlatform& platform) {
  TRY(check_low_memory(memory));
  if (platform.cpus > kMaxAcpiCpus)
    return fail("ACPI tables: {} CPUs are more than the {} possible", platform.cpus, kMaxAcpiCpus);
  const aml::Bytes terms = TRY(dsdt_terms(platform));
  TableArea area(memory);
  const Facs facs;
  const GuestAddress facs_address = TRY(area.put(as_bytes(&facs, sizeof(facs)), 64));
  const GuestAddress dsdt_address = TRY(area.put_table(dsdt(terms)));
  Table xsdt;  // 5.2.8
  append(xsdt, TableHeader{.signature = {'X', 'S', 'D', 'T'}, .revision = 1});
  append(xsdt, TRY(area.put_table(fadt(platform, facs_address, dsdt_address))).value);
  append(xsdt, TRY(area.put_table(madt(platform))).value);
  if (platform.pci) append(xsdt, TRY(area.put_table(mcfg(*platform.pci))).value);

  Rsdp rsdp;
  rsdp.xsdt = TRY(area.put_table(std::move(xsdt))).value;
  const auto bytes = as_bytes(&rsdp, sizeof(rsdp));
  rsdp.checksum = static_cast<uint8_t>(checksum(bytes.first(offsetof(Rsdp, length))));
  rsdp.extended_checksum = static_cast<uint8_t>(checksum(bytes));
  TRY(memory.write(kAcpiTables, rsdp));
  return kAcpiTables;
}

}  // namespace wick::boot
