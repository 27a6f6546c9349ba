// The registers of the real-time clock under any accesses of a guest, while the host's time goes
// forward, stands still and jumps. The line and the timer follow from what the guest reads: the
// line is up exactly if register C says so, and the timer asks for at most 8192 calls a second.
#include <fuzzer/FuzzedDataProvider.h>

#include <array>
#include <optional>

#include "devices/rtc.h"
#include "tests/fakes/counting_line.h"
#include "tests/fuzz/harness.h"

using namespace wick;
using std::chrono::microseconds;
using std::chrono::nanoseconds;

namespace {

constexpr uint8_t kC = 0x0c;
constexpr uint8_t kInterruptRequest = 0x80;

struct Machine {
  explicit Machine(nanoseconds& time) : now(time) {}

  devices::Rtc::Wires wires() {
    return {.now = [this] { return now; },
            .arm =
                [this](microseconds in) {
                  fuzz::require(in > microseconds(0) && in <= std::chrono::seconds(1));
                  wake_at = now + in;
                },
            .alarm = [] {}};
  }

  nanoseconds& now;
  std::optional<nanoseconds> wake_at;
  fakes::CountingLine line;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  nanoseconds now = std::chrono::seconds(1'700'000'000);
  std::optional<Machine> machine(std::in_place, now);
  std::optional<devices::Rtc> rtc(std::in_place, machine->line, machine->wires());
  while (input.remaining_bytes() > 0) {
    const uint64_t offset = input.ConsumeIntegralInRange<uint64_t>(0, 1);
    std::array<std::byte, 8> bytes{};
    switch (input.ConsumeIntegralInRange(0, 6)) {
      case 0:
        rtc->read(offset, std::span(bytes).first(input.ConsumeIntegralInRange<size_t>(1, 8)));
        break;
      case 1:
        now += microseconds(input.ConsumeIntegral<uint16_t>());
        break;
      case 2:
        now += std::chrono::seconds(input.ConsumeIntegral<int16_t>());
        rtc->wake();
        break;
      case 3: {  // the timer, a second of it
        int wakes = 0;
        for (const nanoseconds end = now + std::chrono::seconds(1);
             machine->wake_at && *machine->wake_at <= end; ++wakes) {
          now = std::max(now, *machine->wake_at);
          machine->wake_at.reset();
          rtc->wake();
        }
        // Nothing is read here, so there is one tick at most, and two whole seconds.
        fuzz::require(wakes <= 4);
        break;
      }
      case 4: {  // a sleep, and a new board
        const devices::Rtc::State state = rtc->state();
        rtc.reset();
        machine.emplace(now);
        rtc.emplace(machine->line, machine->wires(), state);
        break;
      }
      default:
        input.ConsumeData(bytes.data(), bytes.size());
        rtc->write(offset, std::span(bytes).first(input.ConsumeIntegralInRange<size_t>(1, 8)));
        break;
    }
    const devices::Rtc::State state = rtc->state();
    fuzz::require(machine->line.level() == ((state.bytes[kC] & kInterruptRequest) != 0));
  }
  return 0;
}
