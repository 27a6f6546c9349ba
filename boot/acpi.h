// The ACPI tables, by which an operating system finds devices that are not on an
// enumerable bus, the interrupt controllers, the power button, soft off and reset. vmm/
// describes the machine in an AcpiPlatform; this code writes the tables.
//
// Thread rule: before the first vCPU runs.
// Specification: ACPI 6.5, 5.2 (tables), 6 (device configuration).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

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
    uint8_t century = 0;  // index of the century byte in CMOS RAM; 0: none
  };
  struct VirtioMmio {
    uint32_t address = 0;
    uint32_t size_bytes = 0;
    uint32_t gsi = 0;  // edge-triggered, not shared
  };

  // One host bridge with bus 0.
  struct Pci {
    uint16_t config_port = 0;  // eight ports
    uint32_t ecam = 0;         // 1 MiB
    uint32_t window = 0;       // for BARs
    uint32_t window_bytes = 0;
    std::vector<uint8_t> slot_irqs = {};  // GSI of INTA, level-triggered; slot 1 first
    // Hot-plug (devices/acpi_hotplug.h): a bit for each slot that has it, its registers, and the
    // general-purpose event that tells of changes.
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

  uint8_t sci_irq = 9;  // level-triggered, active high
  uint16_t pm1_event_port = 0;
  uint16_t pm1_control_port = 0;
  uint16_t pm_timer_port = 0;  // 32 bits
  uint16_t gpe0_port = 0;      // status and enable, 8 bits each; 0: there are no such events
  uint8_t sleep_type_s5 = 0;   // the SLP_TYP value for power-off
  uint16_t reset_port = 0;
  uint8_t reset_value = 0;

  Rtc rtc = {};
  uint16_t pvpanic_port = 0;         // 0: there is none
  uint16_t fw_cfg_port = 0;          // the first of twelve; 0: there is none
  std::vector<Serial> serials = {};  // COM1 first
  std::vector<VirtioMmio> virtio_mmio = {};
  std::optional<Pci> pci = {};
};

// Writes all tables at kAcpiTables, which the memory map reserves, and returns the address of
// the RSDP. An operating system can also find the RSDP by scanning from 0xe0000.
Result<GuestAddress> write_acpi_tables(const GuestMemory& memory, const AcpiPlatform& platform);

}  // namespace wick::boot
