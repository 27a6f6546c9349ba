// A guest that does anything to the fw_cfg device. Whatever it does: the offset stays within the
// item, what is read-only does not change, what is written has its size, and requests write to
// RAM alone.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "devices/fw_cfg.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using devices::FwCfg;
using fuzz::require;

constexpr uint64_t kRamBytes = 64 << 10;
constexpr uint64_t kSecondRam = 128 << 10;
constexpr uint32_t kLargeBytes = 3 << 20;

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of({{{0}, kRamBytes}, {{kSecondRam}, kRamBytes}});
  return ram;
}

std::vector<std::byte> content(size_t size) { return std::vector<std::byte>(size, std::byte{7}); }

class Bench {
 public:
  Bench() {
    for (const GuestMemory::Region& region : memory().regions())
      std::memset(region.host, 0, region.size_bytes);
    require(device_.add("etc/read-only", content(100)).has_value());
    require(device_.add_writable("etc/any", content(5000), told(5000)).has_value());
    require(device_.add_writable("etc/vmcoreinfo", content(16), told(16)).has_value());
    require(device_
                .add("big", kLargeBytes,
                     [](uint64_t offset, std::span<std::byte> to) {
                       require(offset < kLargeBytes && to.size() <= kLargeBytes - offset);
                       std::ranges::fill(to, std::byte{9});
                     })
                .has_value());
  }

  void step(FuzzedDataProvider& input) {
    const uint64_t offset = input.ConsumeIntegralInRange<uint64_t>(0, FwCfg::kPorts - 1);
    const size_t width =
        input.ConsumeIntegralInRange<size_t>(1, std::min<size_t>(8, FwCfg::kPorts - offset));
    std::array<std::byte, 8> data{};
    switch (input.ConsumeIntegralInRange(0, 3)) {
      case 0:
        device_.read(offset, std::span(data).first(width));
        break;
      case 1:
        input.ConsumeData(data.data(), width);
        device_.write(offset, std::span(data).first(width));
        break;
      default:
        request(input);
        break;
    }
    const FwCfg::State state = device_.state();
    require(state.offset_bytes <= kLargeBytes);
    require(device_.contents("etc/read-only") == content(100));
    require(device_.contents("etc/any").size() == 5000);
    require(device_.contents("etc/vmcoreinfo").size() == 16);
  }

 private:
  static FwCfg::Writing told(size_t size) {
    return {.whole_only = size == 16,
            .on_written = [size](auto bytes) { require(bytes.size() == size); }};
  }

  void request(FuzzedDataProvider& input) {
    const uint64_t at = input.ConsumeBool() ? input.ConsumeIntegralInRange<uint64_t>(0, 200 << 10)
                                            : input.ConsumeIntegral<uint64_t>();
    std::array<std::byte, 16> bytes{};
    const auto key = static_cast<uint16_t>(input.ConsumeIntegralInRange(0, 0x30));
    store_be(std::span(bytes), uint32_t{key} << 16 | input.ConsumeIntegral<uint8_t>());
    store_be(std::span(bytes).subspan(4), input.ConsumeBool() ? input.ConsumeIntegral<uint8_t>()
                                                              : input.ConsumeIntegral<uint32_t>());
    store_be(std::span(bytes).subspan(8), input.ConsumeIntegralInRange<uint64_t>(0, 300 << 10));
    (void)memory().write_bytes({at}, bytes);
    std::array<std::byte, 4> half;
    store_be(half, static_cast<uint32_t>(at >> 32));
    device_.write(4, half);
    store_be(half, static_cast<uint32_t>(at));
    device_.write(8, half);
    require(device_.state().dma_address == 0);
  }

  FwCfg device_{memory()};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);
  FuzzedDataProvider input(data, size);
  Bench bench;
  while (input.remaining_bytes() > 0) bench.step(input);
  return 0;
}
