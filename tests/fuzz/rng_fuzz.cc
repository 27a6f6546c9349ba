// virtio-rng with chains of any shape, and broken rings.
#include "tests/fuzz/virtio_device.h"
#include "virtio/rng.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick;
  FuzzedDataProvider input(data, size);
  const auto rng = virtio::Rng::create(fuzz::loop(), "").value();
  fuzz::Device device(input, *rng);
  while (input.remaining_bytes() > 0) {
    switch (input.ConsumeIntegralInRange(0, 15)) {
      case 0:
        device.break_ring(0);
        break;
      case 1:
        device.write_config();
        break;
      case 2:
      case 3:
        device.run();
        break;
      default:
        device.publish(0, input.ConsumeBytes<std::byte>(8));
    }
  }
  device.drain(0);
  device.reset();
  return 0;
}
