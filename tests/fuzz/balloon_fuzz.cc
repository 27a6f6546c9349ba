// virtio-balloon with any page numbers and reports, even of its own rings, and broken rings.
#include "tests/fuzz/virtio_device.h"
#include "virtio/balloon.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick;
  constexpr uint16_t kReporting = 2;
  constexpr uint32_t kFirstPage = fuzz::kRingsEnd / 4096;
  FuzzedDataProvider input(data, size);
  virtio::Balloon balloon(fuzz::memory(), fuzz::loop());
  fuzz::Device device(input, balloon);
  while (input.remaining_bytes() > 0) {
    const auto queue = input.ConsumeIntegralInRange<uint16_t>(0, 2);
    switch (input.ConsumeIntegralInRange(0, 15)) {
      case 0:
        device.break_ring(queue);
        break;
      case 1:
        device.write_config();
        break;
      case 2:
        balloon.set_target(input.ConsumeIntegral<uint64_t>());
        break;
      case 3:
      case 4:
        device.run();
        break;
      case 5:
      case 6: {
        const uint64_t start =
            input.ConsumeIntegralInRange<uint64_t>(fuzz::kRingsEnd, fuzz::kRamBytes);
        const auto most = static_cast<uint32_t>(fuzz::kRamBytes - start);
        if (most > 0)
          device.publish_at(kReporting, {start}, input.ConsumeIntegralInRange(0u, most));
        break;
      }
      case 7:
        device.rings_are_gone();
        device.publish_at(kReporting, {0}, fuzz::kRingsEnd);
        break;
      default: {
        // Page numbers above the rings, in RAM and outside of it.
        std::vector<uint32_t> pages(input.ConsumeIntegralInRange<size_t>(0, 40));
        for (uint32_t& page : pages)
          page = input.ConsumeBool()
                     ? input.ConsumeIntegralInRange<uint32_t>(kFirstPage, kFirstPage + 600)
                     : input.ConsumeIntegralInRange<uint32_t>(kFirstPage, UINT32_MAX);
        // Not as reports, because a report is about its own buffers.
        device.publish(queue == kReporting ? 0 : queue, std::as_bytes(std::span(pages)));
      }
    }
  }
  for (uint16_t queue = 0; queue < 3; ++queue) device.drain(queue);
  device.reset();
  return 0;
}
