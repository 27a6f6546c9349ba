#include "boot/acpi.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

#include "base/bytes.h"
#include "boot/dsdt.h"
#include "boot/table_blob.h"

namespace wick::boot {

namespace {

// ACPI 6.5, 5.2.6, System Description Table Header.
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

// ACPI 6.5, 5.2.5.3, Root System Description Pointer.
struct [[gnu::packed]] Rsdp {
  std::array<char, 8> signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  uint8_t checksum = 0;  // checksum of the first 20 bytes
  std::array<char, 6> oem_id = {'W', 'I', 'C', 'K', ' ', ' '};
  uint8_t revision = 2;
  uint32_t rsdt = 0;  // optional: the XSDT has replaced it since ACPI 2.0
  uint32_t length = 36;
  uint64_t xsdt = 0;
  uint8_t extended_checksum = 0;
  std::array<uint8_t, 3> reserved = {};
};
static_assert(sizeof(Rsdp) == 36 && offsetof(Rsdp, length) == 20);

// ACPI 6.5, 5.2.3.2, Generic Address Structure.
struct [[gnu::packed]] GenericAddress {
  uint8_t space = 0;  // 1: I/O ports
  uint8_t bit_width = 0;
  uint8_t bit_offset = 0;
  uint8_t access_size = 0;  // 1: byte, 2: word, 3: double word
  uint64_t address = 0;
};
static_assert(sizeof(GenericAddress) == 12);

// ACPI 6.5, 5.2.9, Fixed ACPI Description Table, revision 6.5.
struct [[gnu::packed]] Fadt {
  // Fixed feature flags (table 5.10).
  static constexpr uint32_t kWbinvd = 1 << 0;
  static constexpr uint32_t kProcC1 = 1 << 2;
  static constexpr uint32_t kNoSleepButton = 1 << 5;
  static constexpr uint32_t kRtcWakesFromS4 = 1 << 7;
  static constexpr uint32_t kTimer32Bits = 1 << 8;
  static constexpr uint32_t kResetRegister = 1 << 10;
  // IA-PC boot architecture flags (table 5.11).
  static constexpr uint16_t kLegacyDevices = 1 << 0;
  static constexpr uint16_t kKeyboardController = 1 << 1;
  static constexpr uint16_t kVgaNotPresent = 1 << 2;
  // A latency above the state's limit means that the state is not supported (table 5.9).
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
  uint16_t boot_architecture = kLegacyDevices;
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

// ACPI 6.5, 5.2.10, Firmware ACPI Control Structure. It has no checksum.
struct [[gnu::packed]] Facs {
  std::array<char, 4> signature = {'F', 'A', 'C', 'S'};
  uint32_t length = 64;
  uint32_t hardware_signature = 0;  // a constant, so that a resume from S4 finds the same hardware
  uint32_t firmware_waking_vector = 0;
  uint32_t global_lock = 0;
  uint32_t flags = 0;
  uint64_t x_firmware_waking_vector = 0;
  uint8_t version = 2;
  std::array<uint8_t, 31> unused1 = {};
};
static_assert(sizeof(Facs) == 64 && offsetof(Facs, firmware_waking_vector) == 12 &&
              offsetof(Facs, version) == 32);

// ACPI 6.5, 5.2.12, Multiple APIC Description Table, and the structures in it.
struct [[gnu::packed]] Madt {
  static constexpr uint32_t kPcatCompatible = 1 << 0;  // the machine also has 8259s

  TableHeader header{.signature = {'A', 'P', 'I', 'C'}, .revision = 5};
  uint32_t local_apic_address = 0;
  uint32_t flags = kPcatCompatible;
};
static_assert(sizeof(Madt) == 44);

struct [[gnu::packed]] MadtLocalApic {  // ACPI 6.5, 5.2.12.2
  uint8_t type = 0;
  uint8_t length = 8;
  uint8_t processor_uid = 0;
  uint8_t apic_id = 0;
  uint32_t flags = 1;  // bit 0: the processor is enabled
};
static_assert(sizeof(MadtLocalApic) == 8);

struct [[gnu::packed]] MadtIoApic {  // ACPI 6.5, 5.2.12.3
  uint8_t type = 1;
  uint8_t length = 12;
  uint8_t id = 0;  // KVM's IO-APIC has ID 0
  uint8_t reserved = 0;
  uint32_t address = 0;
  uint32_t gsi_base = 0;
};
static_assert(sizeof(MadtIoApic) == 12);

struct [[gnu::packed]] MadtSourceOverride {  // ACPI 6.5, 5.2.12.5
  static constexpr uint16_t kActiveHigh = 1;
  static constexpr uint16_t kLevelTriggered = 3 << 2;

  uint8_t type = 2;
  uint8_t length = 10;
  uint8_t bus = 0;  // 0: ISA
  uint8_t irq = 0;
  uint32_t gsi = 0;
  uint16_t flags = 0;  // 0: conforms to the bus
};
static_assert(sizeof(MadtSourceOverride) == 10);

struct [[gnu::packed]] MadtLocalApicNmi {  // ACPI 6.5, 5.2.12.7
  uint8_t type = 4;
  uint8_t length = 6;
  uint8_t processor_uid = 0xff;  // all processors
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

// Puts tables one after the other into a blob. The addresses in them are offsets until link().
class TableArea {
 public:
  // Fills in the length, and registers the header's checksum, which link() computes. Returns the
  // table's offset.
  uint32_t put_table(Table table) {
    const auto size_bytes = static_cast<uint32_t>(table.size());
    store_le(std::span(table).subspan(offsetof(TableHeader, length), 4), size_bytes);
    const uint32_t start = put(table, 16);
    blob_.checksums.push_back(
        {static_cast<uint32_t>(start + offsetof(TableHeader, checksum)), start, size_bytes});
    return start;
  }

  uint32_t put(std::span<const std::byte> bytes, uint64_t alignment) {
    const uint64_t start = align_up(blob_.bytes.size(), alignment);
    blob_.bytes.resize(start);
    blob_.bytes.insert(blob_.bytes.end(), bytes.begin(), bytes.end());
    return static_cast<uint32_t>(start);
  }

  // Registers the field at `offset` as one that holds the offset of a table.
  void add_pointer(size_t offset, uint8_t size_bytes) {
    blob_.pointers.push_back({static_cast<uint32_t>(offset), size_bytes});
  }

  TableBlob take() && { return std::move(blob_); }

 private:
  TableBlob blob_;
};

Table dsdt(std::span<const uint8_t> terms) {
  Table table;
  append(table, TableHeader{.signature = {'D', 'S', 'D', 'T'}, .revision = 2});
  const auto bytes = std::as_bytes(terms);
  table.insert(table.end(), bytes.begin(), bytes.end());
  return table;
}

Table fadt(const AcpiPlatform& platform, uint32_t facs_offset, uint32_t dsdt_offset) {
  const auto ports = [](uint16_t port, uint8_t size_bytes, uint8_t access_size) {
    return GenericAddress{.space = 1,
                          .bit_width = static_cast<uint8_t>(size_bytes * 8),
                          .bit_offset = 0,
                          .access_size = access_size,
                          .address = port};
  };
  Fadt fadt;
  fadt.facs = facs_offset;
  fadt.dsdt = dsdt_offset;
  fadt.x_dsdt = dsdt_offset;
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
  if (!platform.has_vga) fadt.boot_architecture |= Fadt::kVgaNotPresent;
  if (platform.has_keyboard) fadt.boot_architecture |= Fadt::kKeyboardController;
  if (platform.sleep_type_s4) fadt.flags |= Fadt::kRtcWakesFromS4;
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

// Puts the RSDT, whose addresses T have 4 bytes, or the XSDT, whose addresses have 8 bytes (ACPI
// 6.5, 5.2.7 and 5.2.8). Returns the table's offset.
template <typename T>
uint32_t put_root_table(TableArea& area, const std::array<char, 4>& signature,
                        std::span<const uint32_t> tables) {
  Table root;
  append(root, TableHeader{.signature = signature, .revision = 1});
  for (const uint32_t table : tables) append(root, T{table});
  const uint32_t start = area.put_table(std::move(root));
  for (size_t i = 0; i < tables.size(); ++i)
    area.add_pointer(start + sizeof(TableHeader) + i * sizeof(T), sizeof(T));
  return start;
}

struct Blobs {
  TableBlob tables;
  TableBlob rsdp;
};

TableBlob rsdp_blob(const Rsdp& rsdp) {
  TableBlob blob;
  append(blob.bytes, rsdp);
  if (rsdp.rsdt != 0) blob.pointers.push_back({offsetof(Rsdp, rsdt), sizeof(rsdp.rsdt)});
  blob.pointers.push_back({offsetof(Rsdp, xsdt), sizeof(rsdp.xsdt)});
  // The range of the second checksum includes the first checksum, so this order matters.
  blob.checksums.push_back({offsetof(Rsdp, checksum), 0, offsetof(Rsdp, length)});
  blob.checksums.push_back({offsetof(Rsdp, extended_checksum), 0, sizeof(rsdp)});
  return blob;
}

Result<Blobs> make_blobs(const AcpiPlatform& platform, bool with_rsdt) {
  if (platform.cpus > kMaxAcpiCpus)
    return fail("ACPI tables: {} CPUs are more than the {} possible", platform.cpus, kMaxAcpiCpus);
  const aml::Bytes terms = TRY(dsdt_terms(platform));
  TableArea area;
  const Facs facs;
  const uint32_t facs_offset = area.put(as_bytes(&facs, sizeof(facs)), 64);
  const uint32_t dsdt_offset = area.put_table(dsdt(terms));
  std::vector<uint32_t> tables;
  const uint32_t fadt_offset = area.put_table(fadt(platform, facs_offset, dsdt_offset));
  area.add_pointer(fadt_offset + offsetof(Fadt, facs), sizeof(Fadt::facs));
  area.add_pointer(fadt_offset + offsetof(Fadt, dsdt), sizeof(Fadt::dsdt));
  area.add_pointer(fadt_offset + offsetof(Fadt, x_dsdt), sizeof(Fadt::x_dsdt));
  tables.push_back(fadt_offset);
  tables.push_back(area.put_table(madt(platform)));
  if (platform.pci) tables.push_back(area.put_table(mcfg(*platform.pci)));

  Rsdp rsdp;
  rsdp.xsdt = put_root_table<uint64_t>(area, {'X', 'S', 'D', 'T'}, tables);
  if (with_rsdt) rsdp.rsdt = put_root_table<uint32_t>(area, {'R', 'S', 'D', 'T'}, tables);
  return Blobs{std::move(area).take(), rsdp_blob(rsdp)};
}

}  // namespace

Result<GuestAddress> write_acpi_tables(const GuestMemory& memory, const AcpiPlatform& platform) {
  TRY(check_low_memory(memory));
  Blobs blobs = TRY(make_blobs(platform, false));
  // The FACS is the first of the tables.
  static_assert(kAcpiFacs.value >= kAcpiTables.value + sizeof(Rsdp));
  if (blobs.tables.bytes.size() > kAcpiTables.value + kAcpiTablesBytes - kAcpiFacs.value)
    return fail("ACPI tables: {} bytes do not fit at {:#x}", blobs.tables.bytes.size(),
                kAcpiFacs.value);
  link(blobs.tables, kAcpiFacs);
  link(blobs.rsdp, kAcpiFacs);
  TRY(memory.write_bytes(kAcpiFacs, blobs.tables.bytes));
  TRY(memory.write_bytes(kAcpiTables, blobs.rsdp.bytes));
  return kAcpiTables;
}

Result<WakingVectors> read_waking_vectors(const GuestMemory& memory) {
  const Facs facs = TRY(memory.read<Facs>(kAcpiFacs));
  return WakingVectors{facs.firmware_waking_vector, facs.x_firmware_waking_vector};
}

Result<AcpiFiles> make_acpi_files(const AcpiPlatform& platform) {
  Blobs blobs = TRY(make_blobs(platform, true));
  auto loader = make_loader_script(blobs.tables, blobs.rsdp);
  return AcpiFiles{std::move(blobs.tables.bytes), std::move(blobs.rsdp.bytes), std::move(loader)};
}

}  // namespace wick::boot
