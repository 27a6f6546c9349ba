// ACPI tables of any machine. They are refused, or written inside their area, found from the
// RSDP, and have correct lengths and checksums. The same holds for the files from which firmware
// writes them, wherever it puts them.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstring>
#include <string>

#include "base/bytes.h"
#include "boot/acpi.h"
#include "boot/table_blob.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/table_loader.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using fuzz::require;

constexpr uint64_t kArea = 0xe0000;
constexpr uint64_t kAreaEnd = 0x100000;
constexpr uint64_t kRamBytes = 4 << 20;

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(kRamBytes);
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
  if (input.ConsumeBool()) p.sleep_type_s3 = byte();
  if (input.ConsumeBool()) p.sleep_type_s4 = byte();
  p.sleep_type_s5 = byte();
  p.has_vga = input.ConsumeBool();
  p.has_keyboard = input.ConsumeBool();
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

uint8_t sum(std::span<const std::byte> bytes) {
  unsigned total = 0;
  for (const std::byte byte : bytes) total += std::to_integer<unsigned>(byte);
  return static_cast<uint8_t>(total);
}

// The part of the guest's memory in which all tables must be.
struct Area {
  uint64_t start = 0;
  uint64_t end = 0;

  std::span<const std::byte> inside(uint64_t address, uint64_t size_bytes) const {
    require(address >= start && address <= end && size_bytes <= end - address);
    return memory().slice({address}, size_bytes).value();
  }
  std::span<const std::byte> table(uint64_t address) const {
    const auto bytes = inside(address, load_le<uint32_t>(inside(address + 4, 4)));
    require(bytes.size() >= 36 && sum(bytes) == 0);
    return bytes;
  }
};

void check(const boot::AcpiPlatform& p, std::span<const std::byte> rsdp, const Area& area) {
  require(sum(rsdp.first(20)) == 0 && sum(rsdp) == 0);
  const auto xsdt = area.table(load_le<uint64_t>(rsdp.subspan(24)));
  require((xsdt.size() - 36) / 8 == (p.pci ? 3 : 2) && (xsdt.size() - 36) % 8 == 0);
  for (size_t at = 36; at < xsdt.size(); at += 8) {
    const auto found = area.table(load_le<uint64_t>(xsdt.subspan(at)));
    if (std::memcmp(found.data(), "FACP", 4) != 0) continue;
    (void)area.table(load_le<uint64_t>(found.subspan(140)));
    const auto facs = load_le<uint32_t>(found.subspan(36));
    require(facs % 64 == 0);
    (void)area.inside(facs, 64);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const boot::AcpiPlatform p = platform(input);
  const auto ram = memory().slice({0}, kRamBytes).value();
  std::memset(ram.data() + kArea, 0, kAreaEnd - kArea);
  if (const auto rsdp = boot::write_acpi_tables(memory(), p))
    check(p, memory().slice(*rsdp, 36).value(), {kArea, kAreaEnd});

  const auto files = boot::make_acpi_files(p);
  if (!files) return 0;
  fakes::TableLoader loader(memory(), {{std::string(boot::kAcpiTablesFile), files->tables},
                                       {std::string(boot::kAcpiRsdpFile), files->rsdp}});
  require(loader.run(files->loader).empty());
  const uint64_t tables = loader.address_of(std::string(boot::kAcpiTablesFile));
  const uint64_t rsdp = loader.address_of(std::string(boot::kAcpiRsdpFile));
  check(p, memory().slice({rsdp}, files->rsdp.size()).value(),
        {tables, tables + files->tables.size()});
  return 0;
}
