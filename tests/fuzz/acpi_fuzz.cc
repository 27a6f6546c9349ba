// ACPI tables of any machine. They are refused, or written inside their area, found from the
// RSDP, and have correct lengths and checksums.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstring>

#include "base/bytes.h"
#include "boot/acpi.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using fuzz::require;

constexpr uint64_t kArea = 0xe0000;
constexpr uint64_t kAreaEnd = 0x100000;

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(2 << 20);
  return ram;
}

boot::AcpiPlatform platform(FuzzedDataProvider& input) {
  boot::AcpiPlatform p;
  const auto byte = [&] { return input.ConsumeIntegral<uint8_t>(); };
  const auto word = [&] { return input.ConsumeIntegral<uint16_t>(); };
  const auto dword = [&] { return input.ConsumeIntegral<uint32_t>(); };
  p.cpus = input.ConsumeBool() ? dword() : byte();
  p.local_apic_address = dword();
  p.io_apic_address = dword();
  p.timer_gsi = dword();
  p.sci_irq = byte();
  p.pm1_event_port = word();
  p.pm1_control_port = word();
  p.sleep_type_s5 = byte();
  p.reset_port = word();
  p.reset_value = byte();
  p.rtc = {word(), byte(), byte()};
  p.fw_cfg_port = word();
  for (int left = input.ConsumeIntegralInRange(0, 12); left > 0; --left)
    p.serials.push_back({word(), input.ConsumeIntegralInRange<uint8_t>(0, 17)});
  p.virtio_mmio.resize(input.ConsumeIntegralInRange<size_t>(0, 300), {dword(), dword(), dword()});
  if (input.ConsumeBool()) {
    p.pci = boot::AcpiPlatform::Pci{
        .config_port = word(), .ecam = dword(), .window = dword(), .window_bytes = dword()};
    p.pci->hotplug_slots = dword();
    p.pci->hotplug_port = word();
    p.pci->hotplug_event = byte();
    p.gpe0_port = word();
    p.pci->slot_irqs.resize(input.ConsumeIntegralInRange<size_t>(0, 300), byte());
  }
  return p;
}

std::span<const std::byte> inside(uint64_t address, uint64_t size_bytes) {
  require(address >= kArea && address <= kAreaEnd && size_bytes <= kAreaEnd - address);
  return memory().slice({address}, size_bytes).value();
}

uint8_t sum(std::span<const std::byte> bytes) {
  unsigned total = 0;
  for (const std::byte byte : bytes) total += std::to_integer<unsigned>(byte);
  return static_cast<uint8_t>(total);
}

std::span<const std::byte> table(uint64_t address) {
  const auto bytes = inside(address, load_le<uint32_t>(inside(address + 4, 4)));
  require(bytes.size() >= 36 && sum(bytes) == 0);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const boot::AcpiPlatform p = platform(input);
  const auto ram = memory().slice({0}, 2 << 20).value();
  std::memset(ram.data() + kArea, 0, kAreaEnd - kArea);
  const auto rsdp_at = boot::write_acpi_tables(memory(), p);
  if (!rsdp_at) return 0;
  const auto rsdp = inside(rsdp_at->value, 36);
  require(sum(rsdp.first(20)) == 0 && sum(rsdp) == 0);
  const auto xsdt = table(load_le<uint64_t>(rsdp.subspan(24)));
  require((xsdt.size() - 36) / 8 == (p.pci ? 3 : 2) && (xsdt.size() - 36) % 8 == 0);
  for (size_t at = 36; at < xsdt.size(); at += 8) {
    const auto found = table(load_le<uint64_t>(xsdt.subspan(at)));
    if (std::memcmp(found.data(), "FACP", 4) != 0) continue;
    (void)table(load_le<uint64_t>(found.subspan(140)));
    (void)inside(load_le<uint32_t>(found.subspan(36)), 64);
  }
  return 0;
}
