// The ACPI tables. An operating system finds in them what it cannot detect: devices that are not on
// an enumerable bus, the interrupt controllers, the power button, the sleeping states and the reset
// register. vmm/ describes the machine in an AcpiPlatform; this code writes the tables into guest
// memory, or makes the files from which firmware writes them.
//
// Thread rule: write_acpi_tables() before the first vCPU runs.
// Specification: ACPI 6.5, 5.2 (tables), 6 (device configuration).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/memory_map.h"

namespace wick::boot {

// A local APIC entry of the MADT has an 8-bit ID, and ID 255 means all CPUs.
constexpr uint32_t kMaxAcpiCpus = 255;

struct AcpiPlatform {
  struct Serial {
    uint16_t port = 0;
    uint8_t irq = 0;
  };
  struct Rtc {
    uint16_t port = 0;
    uint8_t irq = 0;
    uint8_t century = 0;  // index of the century byte in CMOS RAM; 0: there is none
  };
  struct VirtioMmio {
    uint32_t address = 0;
    uint32_t size_bytes = 0;
    uint32_t gsi = 0;  // an edge-triggered interrupt that no other device shares
  };

  // The host bridge with bus 0, the only bus.
  struct Pci {
    uint16_t config_port = 0;  // the first of the eight configuration ports
    uint32_t ecam = 0;         // address of the ECAM, which has 1 MiB
    uint32_t window = 0;       // address of the memory for BARs
    uint32_t window_bytes = 0;
    // The level-triggered GSI of INTA of each slot, from slot 1 on.
    std::vector<uint8_t> slot_irqs = {};
    // Hot-plug (devices/acpi_hotplug.h): the mask of the slots that support it, the first port of
    // its registers, and the general-purpose event that announces changes.
    uint32_t hotplug_slots = 0;
    uint16_t hotplug_port = 0;
    uint8_t hotplug_event = 0;  // 0 to 7
  };

  uint32_t cpus = 1;  // APIC IDs 0 to cpus - 1
  uint32_t local_apic_address = 0;
  uint32_t io_apic_address = 0;
  // The IO-APIC pin of the timer's IRQ 0. A PC wires it to pin 2, KVM's default routing
  // to pin 0 (arch/x86/kvm/irq_comm.c, default_routing).
  uint32_t timer_gsi = 0;

  uint8_t sci_irq = 9;  // a level-triggered, active-high interrupt
  uint16_t pm1_event_port = 0;
  uint16_t pm1_control_port = 0;
  uint16_t pm_timer_port = 0;  // port of the ACPI timer, which has 32 bits
  // Status and enable registers of the general-purpose events, 8 bits each; 0: no such events.
  uint16_t gpe0_port = 0;
  // SLP_TYP values of the sleeping states. S3 and S4 are offered only if their value is set.
  std::optional<uint8_t> sleep_type_s3 = {};
  std::optional<uint8_t> sleep_type_s4 = {};
  uint8_t sleep_type_s5 = 0;  // S5 is power-off
  uint16_t reset_port = 0;
  uint8_t reset_value = 0;

  Rtc rtc = {};
  bool has_vga = false;
  bool has_keyboard = false;         // a keyboard and a mouse behind an 8042 at ports 0x60 and 0x64
  uint16_t pvpanic_port = 0;         // 0: there is none
  uint16_t fw_cfg_port = 0;          // the first of twelve ports; 0: there is none
  std::vector<Serial> serials = {};  // COM1 first
  std::vector<VirtioMmio> virtio_mmio = {};
  std::optional<Pci> pci = {};
};

// Writes all tables at kAcpiTables, which the memory map reserves, and returns the address of
// the RSDP. An operating system can also find the RSDP by scanning from 0xe0000.
Result<GuestAddress> write_acpi_tables(const GuestMemory& memory, const AcpiPlatform& platform);

// The address at which write_acpi_tables() puts the FACS.
constexpr GuestAddress kAcpiFacs = kAcpiTables + 64;

// The fields of the FACS with which an operating system tells firmware where to continue after S3
// (5.2.10). The first is a physical address below 1 MiB, which is entered in real mode. The second
// takes precedence unless it is 0, and is entered in protected mode. The guest writes both, so any
// value is possible.
struct WakingVectors {
  uint32_t firmware_waking_vector = 0;
  uint64_t x_firmware_waking_vector = 0;
};

// Reads the waking vectors from the FACS of write_acpi_tables(), for a guest that has no firmware.
Result<WakingVectors> read_waking_vectors(const GuestMemory& memory);

// The tables of write_acpi_tables() as files, from which firmware writes them; boot/table_blob.h
// has the names of the files. They also contain an RSDT, for operating systems that do not know the
// XSDT.
struct AcpiFiles {
  std::vector<std::byte> tables = {};
  std::vector<std::byte> rsdp = {};
  std::vector<std::byte> loader = {};
};

Result<AcpiFiles> make_acpi_files(const AcpiPlatform& platform);

}  // namespace wick::boot
