// Any sequence of accesses to the virtio-mmio registers of a disk, with any bytes in the guest's
// memory.
#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstring>
#include <memory>

#include "base/guest_memory.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fuzz/harness.h"
#include "virtio/blk.h"
#include "virtio/mmio.h"

namespace {

using namespace wick;
using fuzz::loop;
using fuzz::require;
using fuzz::run_loop;

constexpr uint64_t kRamBytes = 64 << 10;

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(kRamBytes);
  return ram;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  spdlog::set_level(spdlog::level::off);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const auto ram = memory().slice({0}, kRamBytes).value();
  std::memset(ram.data(), 0, ram.size());
  fakes::CountingLine line;
  fakes::MemoryBackend disk(loop(), 64 << 10, input.ConsumeBool());
  virtio::Blk blk(disk, loop(), "serial", "vda");
  const auto transport = virtio::MmioTransport::create(blk, memory(), line, "vda").value();
  const fakes::MmioDriver registers(*transport);
  if (input.ConsumeBool()) disk.set_delay(fakes::MemoryBackend::Delay::kNextRound);

  while (input.remaining_bytes() > 0) {
    switch (input.ConsumeIntegralInRange(0, 6)) {
      case 0: {
        constexpr size_t kWidths[] = {1, 2, 4, 8};
        const size_t width = input.PickValueInArray(kWidths);
        const auto value = input.ConsumeIntegral<uint64_t>();
        transport->write(input.ConsumeIntegralInRange<uint64_t>(0, 0x1000 - width),
                         as_bytes(&value, width));
        break;
      }
      case 1:
        registers.write(4 * input.ConsumeIntegralInRange<uint64_t>(0, 0x2c),
                        input.ConsumeIntegralInRange<uint32_t>(0, 0x100));
        break;
      case 2: {
        std::array<std::byte, 8> value;
        (void)transport->read(input.ConsumeIntegralInRange<uint64_t>(0, 0xff8), value);
        break;
      }
      case 3: {
        const auto bytes =
            input.ConsumeBytes<std::byte>(input.ConsumeIntegralInRange<size_t>(0, 64));
        (void)memory().write_bytes({input.ConsumeIntegralInRange<uint64_t>(0, 0x4000)}, bytes);
        break;
      }
      case 4:
        (void)registers.start(
            {.size = input.ConsumeIntegral<uint8_t>(),
             .descriptors = {input.ConsumeIntegralInRange<uint64_t>(0, 16) * 0x100},
             .driver_area = {0x1000},
             .device_area = {0x2000},
             .event_index = input.ConsumeBool(),
             .indirect = true});
        break;
      case 5: {  // another valid chain
        const auto index = memory().read<uint16_t>({0x1002}).value();
        (void)memory().write({0x1002}, static_cast<uint16_t>(index + 1));
        registers.kick(0);
        break;
      }
      default:
        run_loop();
    }
    const uint32_t status = registers.status() & ~uint32_t{0xc0};
    require(status == 0 || status == 1 || status == 3 || status == 11 || status == 15);
  }
  run_loop();
  // Requests in flight must finish before the reset, because nothing else runs the loop.
  run_loop();
  registers.reset();
  require(registers.status() == 0);
  require(registers.read(fakes::MmioDriver::kInterruptStatus) == 0);
  return 0;
}
