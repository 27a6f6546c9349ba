// A guest that writes anything to the flash memory of UEFI's variables. Whatever it does: only
// programmed and erased bytes change, each change is told once the memory is shown again, and lies
// within the memory; the memory is shown exactly in the mode for it. At the end an erase works.
//
// Bounds: four blocks; one access per two bytes of input.
#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "devices/flash.h"
#include "tests/fakes/registers.h"
#include "tests/fuzz/harness.h"

namespace {

using wick::devices::Flash;
using wick::fakes::read_register;
using wick::fakes::write_register;
using wick::fuzz::require;

constexpr size_t kBytes = 4 * Flash::kBlockBytes;
constexpr std::array<uint8_t, 10> kCommands = {0x10, 0x20, 0x40, 0x50, 0x70,
                                               0x90, 0xd0, 0xff, 0xe8, 0x00};

class Bench {
 public:
  void step(uint8_t action, uint8_t value) {
    const size_t width = 1 + (action >> 4 & 7);
    const uint64_t offset =
        std::min<uint64_t>(uint64_t{value} * (kBytes / 255), kBytes - width);  // the bus cuts off
    if ((action & 0x80) != 0) {
      (void)read_register(flash_, offset, width);
    } else {
      const uint8_t code = (action & 15) < kCommands.size() ? kCommands[action & 15] : value;
      write_register(flash_, offset, code, width);
    }
    check();
  }

  void finish() {
    write_register(flash_, 0, 0xff, 1);
    write_register(flash_, 0, 0xff, 1);
    write_register(flash_, 5, 0x20, 1);
    write_register(flash_, 5, 0xd0, 1);
    write_register(flash_, 5, 0xff, 1);
    check();
    require(std::ranges::all_of(std::span(memory_).first(Flash::kBlockBytes),
                                [](std::byte byte) { return byte == std::byte{0xff}; }));
  }

 private:
  void check() {
    const Flash::State state = flash_.state();
    require(readable_ == (state.mode == Flash::Mode::kMemory));
    require(state.changed_begin <= state.changed_end && state.changed_end <= kBytes);
    if (!readable_) return;
    require(state.changed_begin == state.changed_end);
    require(memory_ == stored_);
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(kBytes, std::byte{7});
  std::vector<std::byte> stored_ = memory_;
  bool readable_ = true;
  Flash flash_{memory_, Flash::Wires{.show = [this](bool readable) { readable_ = readable; },
                                     .changed =
                                         [this](size_t offset, size_t size) {
                                           require(offset <= kBytes && size <= kBytes - offset);
                                           std::copy_n(memory_.begin() + offset, size,
                                                       stored_.begin() + offset);
                                         }}};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bench bench;
  for (size_t i = 0; i + 1 < size; i += 2) bench.step(data[i], data[i + 1]);
  bench.finish();
  return 0;
}
