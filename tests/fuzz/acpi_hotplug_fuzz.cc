// The hot-plug registers under any accesses of a guest, while the host adds and removes devices.
// A slot is ejected only if it is pluggable and has a device, and once per device.
#include <fuzzer/FuzzedDataProvider.h>

#include <array>

#include "devices/acpi_hotplug.h"
#include "tests/fuzz/harness.h"

using namespace wick;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const auto pluggable = input.ConsumeIntegral<uint32_t>();
  uint32_t occupied = 0;
  uint32_t ejected = 0;
  devices::AcpiHotplug hotplug(pluggable,
                               {.raise = [] {},
                                .eject =
                                    [&](uint32_t slots) {
                                      fuzz::require(slots != 0);
                                      fuzz::require((slots & ~(occupied & pluggable)) == 0);
                                      fuzz::require((slots & ejected) == 0);
                                      ejected |= slots;
                                    }});
  while (input.remaining_bytes() > 0) {
    const auto slot = input.ConsumeIntegralInRange<uint8_t>(0, 31);
    const uint64_t offset = input.ConsumeIntegralInRange<uint64_t>(0, 11);
    std::array<std::byte, 8> bytes{};
    switch (input.ConsumeIntegralInRange(0, 5)) {
      case 0:
        hotplug.plugged(slot);
        occupied |= 1u << slot;
        break;
      case 1:
        hotplug.occupy(slot);
        occupied |= 1u << slot;
        break;
      case 2:
        hotplug.request_removal(slot);
        break;
      case 3:
        hotplug.removed(slot);
        occupied &= ~(1u << slot);
        ejected &= ~(1u << slot);
        break;
      case 4:
        hotplug.read(offset, std::span(bytes).first(input.ConsumeIntegralInRange<size_t>(1, 8)));
        break;
      default:
        input.ConsumeData(bytes.data(), bytes.size());
        hotplug.write(offset, std::span(bytes).first(input.ConsumeIntegralInRange<size_t>(1, 8)));
        break;
    }
  }
  return 0;
}
