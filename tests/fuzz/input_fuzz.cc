// virtio-input: a driver with buffers of any shape, status events, any selection in the
// configuration space and broken rings, while a host presses keys and moves the pointer.
#include "tests/fuzz/virtio_device.h"
#include "virtio/input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick;
  constexpr uint16_t kEvents = 0;
  constexpr uint16_t kStatus = 1;
  FuzzedDataProvider input(data, size);
  const auto kind =
      input.ConsumeBool() ? virtio::Input::Kind::kKeyboard : virtio::Input::Kind::kTablet;
  const auto pad = virtio::Input::create(fuzz::loop(), kind, [](uint8_t leds) {
                     fuzz::require(leds <= 7);
                   }).value();
  fuzz::Device device(input, *pad);
  while (input.remaining_bytes() > 0) {
    switch (input.ConsumeIntegralInRange(0, 15)) {
      case 0:
        device.break_ring(input.ConsumeIntegralInRange<uint16_t>(0, 1));
        break;
      case 1:
        device.write_config();
        break;
      case 2: {
        std::array<std::byte, 200> config;
        pad->read_config(input.ConsumeIntegralInRange<uint64_t>(0, 300), config);
        break;
      }
      case 3:
      case 4:
        device.run();
        break;
      case 5:
        device.publish(kStatus, input.ConsumeBytes<std::byte>(12));
        break;
      case 6:
      case 7:
      case 8:
        device.publish(kEvents, input.ConsumeBytes<std::byte>(8));
        break;
      case 9:
        pad->move_to(input.ConsumeIntegral<uint16_t>(), input.ConsumeIntegral<uint16_t>());
        break;
      case 10:
        pad->scroll(input.ConsumeIntegral<int>());
        break;
      case 11:
        for (uint16_t key = 0; key < 300; ++key) pad->key(key, input.ConsumeBool());
        break;
      default:
        pad->key(input.ConsumeIntegralInRange<uint16_t>(0, 0x300), input.ConsumeBool());
    }
  }
  device.drain(kStatus);
  device.reset();
  fuzz::require(!pad->active());
  return 0;
}
