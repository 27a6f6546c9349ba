#include "boot/dsdt.h"

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace wick::boot {

namespace {

constexpr size_t kMaxVirtioMmio = 256;  // names are VM00 to VMFF
constexpr size_t kMaxSerials = 9;       // names are COM1 to COM9
constexpr size_t kMaxPciSlots = 31;     // the host bridge has slot 0
constexpr uint8_t kIsaIrqs = 16;

constexpr uint32_t kEcamBytes = 1 << 20;
constexpr uint8_t kPciConfigPorts = 8;

aml::Bytes serial_device(size_t index, const AcpiPlatform::Serial& serial) {
  using namespace aml;
  return device(fmt::format("COM{}", index + 1),
                {name("_HID", eisa_id("PNP0501")), name("_UID", integer(index + 1)),
                 name("_CRS", resource_template({io_ports(serial.port, 8), isa_irq(serial.irq)}))});
}

aml::Bytes rtc_device(const AcpiPlatform::Rtc& rtc) {
  using namespace aml;
  return device("RTC_",
                {name("_HID", eisa_id("PNP0B00")),
                 name("_CRS", resource_template({io_ports(rtc.port, 2), isa_irq(rtc.irq)}))});
}

// The keyboard (PNP0303). Its resources are the controller's ports, which the mouse (PNP0F13) also
// uses. SeaBIOS looks for PNP0303, too, before it touches the controller (src/hw/ps2port.c).
aml::Bytes keyboard_device() {
  using namespace aml;
  return device(
      "KBD_",
      {name("_HID", eisa_id("PNP0303")),
       name("_CRS", resource_template({io_ports(0x60, 1), io_ports(0x64, 1), isa_irq(1)}))});
}

aml::Bytes mouse_device() {
  using namespace aml;
  return device("MOU_",
                {name("_HID", eisa_id("PNP0F13")), name("_CRS", resource_template({isa_irq(12)}))});
}

// The pvpanic device. Linux's pvpanic driver binds to QEMU0001.
aml::Bytes pvpanic_device(uint16_t port) {
  using namespace aml;
  return device("PEVT", {name("_HID", string("QEMU0001")), name("_STA", integer(0xf)),
                         name("_CRS", resource_template({io_ports(port, 1)}))});
}

// The fw_cfg device. Linux's qemu_fw_cfg driver binds to QEMU0002. The ports are those of QEMU:
// selector, data, DMA.
aml::Bytes fw_cfg_device(uint16_t port) {
  using namespace aml;
  return device("FWCF", {name("_HID", string("QEMU0002")), name("_STA", integer(0xb)),
                         name("_CRS", resource_template({io_ports(port, 12)}))});
}

// A virtio-mmio device. Linux's virtio_mmio driver binds to LNRO0005.
aml::Bytes virtio_device(size_t index, const AcpiPlatform::VirtioMmio& virtio) {
  using namespace aml;
  return device(
      fmt::format("VM{:02X}", index),
      {name("_HID", string("LNRO0005")), name("_UID", integer(index)), name("_CCA", integer(1)),
       name("_CRS", resource_template(
                        {memory32(virtio.address, virtio.size_bytes), interrupt(virtio.gsi)}))});
}

// The method _OSC, which tells an operating system what it may control in place of firmware (PCI
// Firmware Specification 3.3, 4.5.1). Only control of the PCI Express capability structures is
// granted. No device has such a structure, but Linux takes a refusal as a failure and disables
// ASPM. Hot plug, power management events and error reporting do not exist here. If the caller's
// buffer has only two double words, the method does not touch a third.
aml::Bytes pci_osc() {
  using namespace aml;
  constexpr uint64_t kUnknownUuid = 1 << 2;
  constexpr uint64_t kUnknownRevision = 1 << 3;
  constexpr uint64_t kMasked = 1 << 4;
  constexpr uint64_t kExpressCapability = 1 << 4;
  const Bytes status = reference("CDW1");
  const Bytes control = reference("CDW3");
  const Bytes none = integer(0);
  return method(
      "_OSC", 4,
      {create_dword_field(argument(3), 0, "CDW1"),
       if_op(
           equal(argument(0), uuid("33db4d5b-1ff7-401c-9657-7441c03dd766")),
           {if_op(equal(argument(1), integer(1)),
                  {if_op(greater(argument(2), integer(2)),
                         {create_dword_field(argument(3), 8, "CDW3"),
                          if_op(bit_and(control, integer(0xffff'ffff & ~kExpressCapability), none),
                                {bit_or(status, integer(kMasked), status)}),
                          bit_and(control, integer(kExpressCapability), control)})}),
            else_op({bit_or(status, integer(kUnknownRevision), status)})}),
       else_op({bit_or(status, integer(kUnknownUuid), status)}), return_op(argument(3))});
}

std::string slot_name(uint32_t slot) { return fmt::format("S{:02X}_", slot); }

// A slot whose device can be added and removed. It has no _STA, so an operating system detects a
// device by its configuration space.
aml::Bytes hotplug_slot(uint32_t slot) {
  using namespace aml;
  return device(slot_name(slot),
                {name("_ADR", integer(slot << 16)), name("_SUN", integer(slot)),
                 method("_EJ0", 1, {store(integer(1u << slot), reference("EJCT"))})});
}

// Adds the registers of devices/acpi_hotplug.h, the slots, and a method that tells the operating
// system what has changed. The method's body costs almost nothing until it runs.
void add_hotplug(std::vector<aml::Bytes>& terms, const AcpiPlatform::Pci& pci) {
  using namespace aml;
  constexpr uint64_t kDeviceCheck = 1;   // 5.6.6: look for a new device
  constexpr uint64_t kEjectRequest = 3;  // 5.6.6: stop and eject the device
  constexpr uint8_t kPorts = 12;
  terms.push_back(port_region("HPRG", pci.hotplug_port, kPorts));
  terms.push_back(dword_fields("HPRG", {"UP__", "DOWN", "EJCT"}));
  std::vector<Bytes> notes;
  for (uint32_t slot = 1; slot <= kMaxPciSlots; ++slot) {
    if ((pci.hotplug_slots & 1u << slot) == 0) continue;
    terms.push_back(hotplug_slot(slot));
    notes.push_back(if_op(bit_and(argument(0), integer(1u << slot), integer(0)),
                          {notify(reference(slot_name(slot)), argument(1))}));
  }
  terms.push_back(method("TELL", 2, notes));
  terms.push_back(method("SCAN", 0,
                         {call(reference("TELL"), {reference("UP__"), integer(kDeviceCheck)}),
                          call(reference("TELL"), {reference("DOWN"), integer(kEjectRequest)})}));
}

// The handler of the general-purpose event. It is edge-triggered (_Exx): the operating system
// clears the status before it runs the method, so that a change while the method runs is not lost.
aml::Bytes hotplug_event(const AcpiPlatform::Pci& pci) {
  using namespace aml;
  const std::array<Bytes, 1> handler = {method(fmt::format("_E{:02X}", pci.hotplug_event), 0,
                                               {call(root_path({"_SB_", "PCI0", "SCAN"}), {})})};
  return scope("_GPE", handler);
}

aml::Bytes pci_root(const AcpiPlatform::Pci& pci) {
  using namespace aml;
  // The elements of a route (6.2.13): slot address with any function, pin (0: INTA), no link
  // device, GSI.
  std::vector<Bytes> routes;
  for (size_t i = 0; i < pci.slot_irqs.size(); ++i)
    routes.push_back(package(
        {integer((i + 1) << 16 | 0xffff), integer(0), integer(0), integer(pci.slot_irqs[i])}));
  const uint16_t config_end = pci.config_port + kPciConfigPorts;
  std::vector<Bytes> terms = {
      name("_HID", eisa_id("PNP0A08")),
      name("_CID", eisa_id("PNP0A03")),
      name("_UID", integer(0)),
      name("_BBN", integer(0)),
      name("_SEG", integer(0)),
      name("_CCA", integer(1)),
      name("_CRS",
           resource_template({bus_numbers(0, 0), io_ports(pci.config_port, kPciConfigPorts),
                              io_window(0, pci.config_port - 1), io_window(config_end, 0xffff),
                              memory_window(pci.window, pci.window + (pci.window_bytes - 1))})),
      name("_PRT", package(routes)),
      pci_osc()};
  if (pci.hotplug_slots != 0) add_hotplug(terms, pci);
  return device("PCI0", terms);
}

// A motherboard device (PNP0C02) that reserves the ECAM. Without it Linux does not use the ECAM.
aml::Bytes motherboard(const AcpiPlatform::Pci& pci) {
  using namespace aml;
  return device("MBRD", {name("_HID", eisa_id("PNP0C02")),
                         name("_CRS", resource_template({memory32(pci.ecam, kEcamBytes)}))});
}

// Returns the package of a sleeping state (7.4.2): SLP_TYP for PM1a and for PM1b, and two reserved
// elements.
aml::Bytes sleep_state(std::string_view segment, uint8_t sleep_type) {
  using namespace aml;
  return name(segment, package({integer(sleep_type), integer(sleep_type), integer(0), integer(0)}));
}

// Refuses a platform with more devices or other values than the AML code can describe.
Result<void> check(const AcpiPlatform& platform) {
  if (platform.virtio_mmio.size() > kMaxVirtioMmio)
    return fail("ACPI tables: {} virtio-mmio devices are more than the {} possible",
                platform.virtio_mmio.size(), kMaxVirtioMmio);
  if (platform.serials.size() > kMaxSerials)
    return fail("ACPI tables: {} serial ports are more than the {} possible",
                platform.serials.size(), kMaxSerials);
  for (const AcpiPlatform::Serial& serial : platform.serials)
    if (serial.irq >= kIsaIrqs) return fail("ACPI tables: IRQ {} is not an ISA IRQ", serial.irq);
  if (platform.rtc.irq >= kIsaIrqs)
    return fail("ACPI tables: IRQ {} is not an ISA IRQ", platform.rtc.irq);
  if (!platform.pci) return {};
  const AcpiPlatform::Pci& pci = *platform.pci;
  if (pci.slot_irqs.size() > kMaxPciSlots)
    return fail("ACPI tables: {} PCI slots are more than the {} of a bus", pci.slot_irqs.size(),
                kMaxPciSlots);
  // pci_root() describes an I/O window on each side of the configuration ports.
  if (pci.config_port == 0 || pci.config_port + kPciConfigPorts > UINT16_MAX)
    return fail("ACPI tables: PCI configuration ports at {:#x} leave no I/O window on one side",
                pci.config_port);
  if (pci.hotplug_slots != 0 && (pci.hotplug_event > 7 || (pci.hotplug_slots & 1) != 0))
    return fail("ACPI tables: no hot-plug of slot 0, nor by event {}", pci.hotplug_event);
  if (pci.window_bytes == 0 || pci.window_bytes - 1 > UINT32_MAX - pci.window)
    return fail("ACPI tables: bad PCI window {:#x} + {:#x}", pci.window, pci.window_bytes);
  return {};
}

}  // namespace

// Without a keyboard neither the DSDT nor the FADT lists the keyboard controller: Linux would spend
// boot time on a search for keyboards that finds none. The controller's reset line works without an
// entry. Processors are in the MADT only: for a processor object Linux would look for power states,
// which a guest does not have.
Result<aml::Bytes> dsdt_terms(const AcpiPlatform& platform) {
  using namespace aml;
  TRY(check(platform));
  std::vector<Bytes> devices;
  for (size_t i = 0; i < platform.serials.size(); ++i)
    devices.push_back(serial_device(i, platform.serials[i]));
  devices.push_back(rtc_device(platform.rtc));
  if (platform.has_keyboard) {
    devices.push_back(keyboard_device());
    devices.push_back(mouse_device());
  }
  if (platform.pvpanic_port != 0) devices.push_back(pvpanic_device(platform.pvpanic_port));
  if (platform.fw_cfg_port != 0) devices.push_back(fw_cfg_device(platform.fw_cfg_port));
  for (size_t i = 0; i < platform.virtio_mmio.size(); ++i)
    devices.push_back(virtio_device(i, platform.virtio_mmio[i]));
  if (platform.pci) {
    devices.push_back(pci_root(*platform.pci));
    devices.push_back(motherboard(*platform.pci));
  }
  std::vector<Bytes> terms;
  if (platform.sleep_type_s3) terms.push_back(sleep_state("_S3_", *platform.sleep_type_s3));
  if (platform.sleep_type_s4) terms.push_back(sleep_state("_S4_", *platform.sleep_type_s4));
  terms.push_back(sleep_state("_S5_", platform.sleep_type_s5));
  terms.push_back(scope("_SB_", devices));
  if (platform.pci && platform.pci->hotplug_slots != 0)
    terms.push_back(hotplug_event(*platform.pci));
  return sequence(terms);
}

}  // namespace wick::boot
