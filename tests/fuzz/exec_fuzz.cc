// wick's side of wick exec's protocol, with a guest that sends anything. What is kept for a guest
// is bounded by the windows of its streams; an end, once there, does not change.
#include <fuzzer/FuzzedDataProvider.h>

#include "base/bytes.h"
#include "guest/session.h"
#include "tests/fuzz/harness.h"

namespace {

// A guest that reads its port only sometimes.
class LazyGuest final : public wick::console::Guest {
 public:
  explicit LazyGuest(FuzzedDataProvider& input) : input_(input) {}
  size_t input(std::span<const std::byte> bytes) override {
    const size_t taken = input_.ConsumeIntegralInRange<size_t>(0, bytes.size());
    return taken;
  }
  void send_break() override {}

 private:
  FuzzedDataProvider& input_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick;
  using namespace wick::guest;
  FuzzedDataProvider input(data, size);
  int ends = 0;
  auto session =
      Session::create(fuzz::loop(), {}, {.started = {}, .ended = [&] { ++ends; }, .typed = {}});
  fuzz::require(session.has_value());
  LazyGuest guest(input);
  (*session)->connect(guest);
  std::optional<int> status;
  while (input.remaining_bytes() > 0) {
    switch (input.ConsumeIntegralInRange(0, 7)) {
      case 0:
        (*session)->write(input.ConsumeBytes<std::byte>(
            input.ConsumeIntegralInRange<size_t>(0, WICK_MAX_PAYLOAD_BYTES)));
        break;
      case 1:
        fuzz::run_loop();
        break;
      case 2:
        (void)(*session)->send_signal(input.ConsumeIntegralInRange(1, 64));
        break;
      case 3:
        (*session)->hold_guest_input(input.ConsumeBool());
        break;
      default: {
        // A frame that has the right form more often than chance would give it.
        const wick_frame frame{.type = input.PickValueInArray<uint8_t>({1, 2, 3, 4, 16, 17, 32}),
                               .stream = input.ConsumeIntegralInRange<uint8_t>(0, 3),
                               .reserved = 0,
                               .length = input.PickValueInArray<uint32_t>({0, 4, 32, 100, 32760})};
        std::vector<std::byte> bytes(frame.length);
        const auto payload = input.ConsumeBytes<std::byte>(frame.length);
        std::ranges::copy(payload, bytes.begin());
        (*session)->write(as_bytes(&frame, sizeof(frame)));
        (*session)->write(bytes);
      }
    }
    fuzz::require(ends == ((*session)->end() ? 1 : 0));
    if (!(*session)->end()) continue;
    const int now = (*session)->end()->status;
    fuzz::require(status.value_or(now) == now && now >= 0);
    status = now;
  }
  (*session)->disconnect();
  session->reset();
  fuzz::run_loop();
  return 0;
}
