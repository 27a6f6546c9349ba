// The split virtqueue with a driver that writes anything to the rings at any moment.
#include <fuzzer/FuzzedDataProvider.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "base/guest_memory.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fuzz/harness.h"
#include "virtio/queue.h"

namespace {

using namespace wick;
using namespace wick::virtio;
using wick::fuzz::require;

constexpr uint64_t kRamBytes = 64 << 10;
constexpr GuestAddress kDescriptors{0};
constexpr GuestAddress kDriverArea{0x1000};
constexpr GuestAddress kDeviceArea{0x2000};

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(kRamBytes);
  return ram;
}

void check(const Chain& chain, uint16_t queue_size) {
  const auto ram = memory().slice({0}, kRamBytes).value();
  require(chain.readable().size() + chain.writable().size() <= queue_size);
  for (const auto& buffers : {chain.readable(), chain.writable()}) {
    for (const iovec& buffer : buffers) {
      const auto* start = static_cast<const std::byte*>(buffer.iov_base);
      require(start >= ram.data() && buffer.iov_len <= ram.size() &&
              start + buffer.iov_len <= ram.data() + ram.size());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const auto ram = memory().slice({0}, kRamBytes).value();
  std::memset(ram.data(), 0, ram.size());
  QueueLayout layout = {.size = static_cast<uint16_t>(1 << input.ConsumeIntegralInRange(0, 6)),
                        .descriptors = kDescriptors,
                        .driver_area = kDriverArea,
                        .device_area = kDeviceArea,
                        .event_index = input.ConsumeBool(),
                        .indirect = input.ConsumeBool()};
  auto queue = VirtQueue::create(memory(), layout).value();

  std::vector<Chain> chains;
  uint32_t popped = 0;
  uint32_t returned = 0;
  const auto give_back = [&](bool complete) {
    if (chains.empty()) return;
    const auto index = input.ConsumeIntegralInRange<size_t>(0, chains.size() - 1);
    Chain chain = std::move(chains[index]);
    // Chain is not assignable, so the later chains are moved up one by one.
    std::vector<Chain> rest;
    for (size_t i = 0; i < chains.size(); ++i)
      if (i != index) rest.push_back(std::move(chains[i]));
    chains.swap(rest);
    if (complete) std::move(chain).complete(input.ConsumeIntegral<uint32_t>());
    ++returned;
  };

  bool broken = false;
  while (input.remaining_bytes() > 0 && !broken) {
    switch (input.ConsumeIntegralInRange(0, 8)) {
      case 0: {  // the driver writes a descriptor anywhere
        const vring_desc descriptor = {
            input.ConsumeBool() ? input.ConsumeIntegralInRange<uint64_t>(0, kRamBytes + 16)
                                : input.ConsumeIntegral<uint64_t>(),
            input.ConsumeIntegral<uint32_t>(), input.ConsumeIntegral<uint16_t>(),
            input.ConsumeIntegral<uint16_t>()};
        (void)memory().write(GuestAddress{16 * input.ConsumeIntegralInRange<uint64_t>(0, 255)},
                             descriptor);
        break;
      }
      case 1: {  // ... or any bytes
        const auto bytes =
            input.ConsumeBytes<std::byte>(input.ConsumeIntegralInRange<size_t>(0, 64));
        // The used ring stays readable for the checks below.
        (void)memory().write_bytes({input.ConsumeIntegralInRange<uint64_t>(0, 0x1f00)}, bytes);
        break;
      }
      case 2:
        (void)memory().write(kDriverArea + 2, input.ConsumeIntegral<uint16_t>());
        break;
      case 3: {  // another valid chain
        auto index = memory().read<uint16_t>(kDriverArea + 2).value();
        (void)memory().write(kDriverArea + (4 + 2ull * (index % layout.size)),
                             input.ConsumeIntegralInRange<uint16_t>(0, layout.size));
        (void)memory().write(kDriverArea + 2, ++index);
        break;
      }
      case 4: {
        auto next = queue.pop();
        if (!next) {
          broken = true;
        } else if (*next) {
          check(**next, layout.size);
          chains.push_back(**std::move(next));
          ++popped;
        }
        break;
      }
      case 5:
        give_back(true);
        break;
      case 6:
        give_back(false);
        break;
      case 7:
        queue.disable_notifications();
        (void)queue.enable_notifications();
        break;
      default:
        (void)queue.interrupt_needed();
    }
    require(chains.size() <= layout.size && popped - returned == chains.size());
    require(memory().read<uint16_t>(kDeviceArea + 2) == static_cast<uint16_t>(returned));
  }
  chains.clear();
  require(memory().read<uint16_t>(kDeviceArea + 2) == static_cast<uint16_t>(popped));
  return 0;
}
