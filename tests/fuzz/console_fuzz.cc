// virtio-console with two ports: data and control messages of any content and shape, a host
// that types and resizes at the same time, and broken rings.
#include "tests/fakes/fake_console.h"
#include "tests/fuzz/virtio_device.h"
#include "virtio/console.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick;
  constexpr uint16_t kControlTransmit = 3;
  FuzzedDataProvider input(data, size);
  std::array<fakes::FakeConsole, 2> hosts;
  virtio::Console console(fuzz::loop(), {{hosts[0], ""}, {hosts[1], "agent"}});
  fuzz::Device device(input, console);
  while (input.remaining_bytes() > 0) {
    fakes::FakeConsole& host = hosts[input.ConsumeBool() ? 1 : 0];
    switch (input.ConsumeIntegralInRange(0, 15)) {
      case 0:
        device.break_ring(input.ConsumeIntegralInRange<uint16_t>(0, 5));
        break;
      case 1:
        device.write_config();
        break;
      case 2:
        host.resize({input.ConsumeIntegral<uint16_t>(), input.ConsumeIntegral<uint16_t>()});
        break;
      case 3:
      case 4:
      case 5: {
        const std::string text(input.ConsumeIntegralInRange<size_t>(0, 10'000), 'x');
        fuzz::require(host.type(text) <= text.size());
        break;
      }
      case 6:
      case 7:
        device.run();
        break;
      case 8:
      case 9:
      case 10: {
        const virtio_console_control control{.id = input.ConsumeIntegralInRange<uint32_t>(0, 3),
                                             .event = input.ConsumeIntegralInRange<uint16_t>(0, 9),
                                             .value = input.ConsumeIntegralInRange<uint16_t>(0, 1)};
        device.publish(kControlTransmit, as_bytes(&control, sizeof(control)));
        break;
      }
      default: {
        const auto queue = input.ConsumeIntegralInRange<uint16_t>(0, 5);
        auto bytes = input.ConsumeBytes<std::byte>(20);
        if (input.ConsumeBool()) bytes.resize(0x8000);
        device.publish(queue, bytes);
      }
    }
  }
  for (const auto transmit : std::to_array<uint16_t>({1, 3, 5})) device.drain(transmit);
  device.reset();
  fuzz::require(hosts[0].type("x") == 0);
  return 0;
}
