// All addresses and interrupt numbers of the machine, as the guest sees them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "boot/memory_map.h"

namespace wick::vmm::layout {

// Guest physical memory: RAM up to kLowRamEnd, devices from there to 4 GiB, the rest of RAM above
// 4 GiB.
constexpr uint64_t kLowRamEnd = boot::kLowRamEnd;
constexpr uint64_t kHighRamStart = boot::kAddressableEnd;

// The configuration spaces of bus 0, and the memory window for PCI BARs. SeaBIOS puts BARs right
// below the IO-APIC.
constexpr uint64_t kPciEcam = 0xe000'0000;
constexpr uint64_t kPciWindow = 0xf000'0000;
constexpr uint64_t kPciWindowBytes = 0x0ec0'0000;
// On a machine with UEFI, OVMF chooses the window for PCI BARs. Its size from the start to 4 GiB is
// the largest power of two that leaves the low RAM below it (edk2,
// OvmfPkg/Library/PlatformInitLib/MemDetect.c, Uc32Base, and Platform.c). The configuration spaces
// follow the window.
constexpr uint64_t kUefiPciWindowEnd = 0xfc00'0000;
constexpr uint64_t kUefiPciEcam = kUefiPciWindowEnd;
constexpr uint64_t uefi_pci_window(uint64_t low_ram_bytes) {
  constexpr uint64_t kEnd = 1ULL << 32;
  return kEnd - std::bit_floor(kEnd - std::max(low_ram_bytes, kEnd / 2));
}
// The port window for PCI BARs.
constexpr uint16_t kPciIoWindow = 0xc000;
constexpr uint16_t kPciIoWindowPorts = 0x1000;

// virtio-mmio windows, one page each.
constexpr uint64_t kVirtioMmioStart = 0xd000'0000;

constexpr uint32_t kIoApic = 0xfec0'0000;
constexpr uint32_t kLocalApic = 0xfee0'0000;
// KVM on Intel uses three pages for real mode (KVM_SET_TSS_ADDR) and one for an identity map.
// The guest does not use them.
constexpr uint64_t kKvmIdentityMap = 0xfeff'c000;
constexpr uint64_t kKvmPagesBytes = 0x4000;
constexpr uint64_t kKvmTss = 0xfeff'd000;

// The firmware image ends at 4 GiB, because the reset vector is 16 bytes below 4 GiB. The last part
// of the image is also copied to RAM, at the end of the first megabyte.
constexpr uint64_t kFirmwareEnd = 1ULL << 32;
constexpr uint64_t kMaxFirmwareBytes = 0x0100'0000;
constexpr uint64_t kFirmwareCopyEnd = 0x10'0000;
constexpr uint64_t kMaxFirmwareCopyBytes = 0x2'0000;

// Ports.
constexpr uint16_t kPitPort = 0x40;
constexpr uint16_t kI8042DataPort = 0x60;
constexpr uint16_t kPort61 = 0x61;
constexpr uint16_t kI8042CommandPort = 0x64;
constexpr uint16_t kRtcPort = 0x70;
constexpr uint16_t kPort92 = 0x92;
constexpr uint16_t kFirmwareLogPort = 0x402;
constexpr std::array<uint16_t, 4> kSerialPorts = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
constexpr uint16_t kPvpanicPort = 0x505;
// IDE channels as on the PC AT (PCI IDE Controller Specification 1.0, 2.1).
constexpr std::array<uint16_t, 2> kIdeCommandPorts = {0x1f0, 0x170};
constexpr std::array<uint16_t, 2> kIdeControlPorts = {0x3f6, 0x376};
constexpr uint16_t kAcpiPmPort = 0x600;
constexpr uint16_t kAcpiHotplugPort = 0x620;
constexpr uint16_t kPciPort = 0xcf8;

// Interrupts: pins of the IO-APIC. The first 16 are also pins of the PIC.
constexpr uint8_t kPitIrq = 0;
constexpr std::array<uint8_t, 4> kSerialIrqs = {4, 3, 5, 7};
constexpr uint8_t kRtcIrq = 8;
constexpr uint8_t kKeyboardIrq = 1;
constexpr uint8_t kMouseIrq = 12;
constexpr uint8_t kSciIrq = 9;
constexpr std::array<uint8_t, 2> kIdeIrqs = {14, 15};
// PCI slot N uses entry N modulo 8 of these upper pins of the IO-APIC.
constexpr std::array<uint8_t, 8> kPciIrqs = {16, 17, 18, 19, 20, 21, 22, 23};
// Each virtio-mmio device has its own pin, because edge-triggered interrupts cannot be shared.
// Without ACPI a kernel does not find the IO-APIC and can use only the pins of the PIC, which begin
// at index kFirstPicIrq.
constexpr std::array<uint8_t, 13> kVirtioMmioIrqs = {16, 17, 18, 19, 20, 21, 22,
                                                     23, 10, 11, 6,  14, 15};
constexpr size_t kFirstPicIrq = 8;

// Each kind of device has its own PCI slots, so that adding or removing a device of one kind does
// not move devices of another kind.
constexpr uint8_t kRngSlot = 1;
constexpr uint8_t kConsoleSlot = 2;
constexpr uint8_t kBalloonSlot = 3;
constexpr uint8_t kIdeSlot = 4;
constexpr uint8_t kVgaSlot = 5;
constexpr uint8_t kKeyboardSlot = 6;
constexpr uint8_t kTabletSlot = 7;
constexpr uint8_t kFirstDiskSlot = 8;
constexpr uint8_t kFirstNetSlot = 24;
constexpr uint8_t kVsockSlot = kFirstNetSlot - 1;  // without vsock the last slot for a disk
constexpr uint8_t kLastShareSlot = 31;             // shares are numbered downwards from here
// The hot-plug slots: those of virtio disks and network cards.
constexpr uint32_t kHotplugSlots = ~0u << kFirstDiskSlot;
constexpr uint8_t kHotplugEvent = 0;  // the number of ACPI's general-purpose event for hot-plug

}  // namespace wick::vmm::layout
