// A guest that does anything to a VGA card, by ports, window and BARs and directly in the video
// memory, while someone watches its screen. What update() keeps is at any time the picture that
// draw() gives, and nothing outside of the rectangles changes.
#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "devices/vga/bochs_display.h"
#include "devices/vga/vga.h"
#include "tests/fakes/registers.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using devices::Vga;
using display::Picture;
using display::Rectangle;
using fakes::kWidths;
using fuzz::require;

constexpr uint64_t kVramBytes = 256 << 10;
constexpr Bus::Range kBars{0xc0000000, 0x10000000};
// Larger pictures are drawn, but not compared with what was there before.
constexpr uint64_t kComparedPixels = 300'000;

class Log final : public devices::DirtyPages {
 public:
  void set_logging(bool on) override { logging_ = on; }
  void take(std::span<uint64_t> bits) override {
    require(logging_);
    for (const uint64_t page : pages) bits[page / 64] |= uint64_t{1} << page % 64;
    pages.clear();
  }
  std::set<uint64_t> pages;

 private:
  bool logging_ = false;
};

class Session {
 public:
  explicit Session(FuzzedDataProvider& input) : input_(input) {
    uint64_t next = kBars.start;
    card_->function().place_bars(kBars, next, 0);
    card_->watch(true);
    port(0x3c2, 0x67);
  }

  void step() {
    switch (input_.ConsumeIntegralInRange(0, 9)) {
      case 0: {
        const auto ranges = card_->port_ranges();
        const auto& range = ranges[number(ranges.size() - 1)];
        access(*range.device, range.ports);
        break;
      }
      case 1:
        access(card_->window(), Vga::kWindowBytes);
        break;
      case 2:
        access(bar(0), kVramBytes);
        break;
      case 3:
        access(bar(kVramBytes), Vga::kRegisterBytes);
        break;
      case 4:  // an indexed register
        indexed(input_.PickValueInArray({0x3c4, 0x3ce, 0x3d4}), 0x18);
        break;
      case 5:
        attribute();
        break;
      case 6:
        display();
        break;
      case 7: {  // directly
        const uint64_t address = number(kVramBytes - 1);
        bytes()[address] = input_.ConsumeIntegral<uint8_t>();
        log_.pages.insert(address / devices::DirtyPages::kPageBytes);
        break;
      }
      case 8:
        card_->watch(input_.ConsumeBool());
        break;
      default:
        look();
        break;
    }
  }

  // Whatever happened, a mode can be set and shows the memory.
  void finish() {
    card_->watch(true);
    set(devices::vga::kEnable, 0);
    set(devices::vga::kBitsPerPixel, 32);
    set(devices::vga::kWidth, 64);
    set(devices::vga::kHeight, 64);
    set(devices::vga::kEnable, devices::vga::kEnabled);
    fakes::write_register(bar(kVramBytes), 0x604, 0x1e1e1e1e, 4);
    port(0x3c2, 0x67);
    port(0x3c4, 0x0001, 2);
    (void)fakes::read_register(*card_->port_ranges()[5].device, 0, 1);
    port(0x3c0, 0x20);
    fakes::write_register(bar(0), 4 * 65, 0x123456, 4);
    look();
    require(seen_.width == 64 && seen_.height == 64);
    require(seen_.pixels[65] == 0x123456 && seen_.pixels[64] == 0);
  }

 private:
  uint64_t number(uint64_t most) { return input_.ConsumeIntegralInRange<uint64_t>(0, most); }
  std::span<uint8_t> bytes() { return {reinterpret_cast<uint8_t*>(words_.data()), kVramBytes}; }

  BusDevice& bar(uint64_t offset) {
    uint64_t within = 0;
    BusDevice* device = card_->function().find(kBars.start + offset, 1, within);
    require(device != nullptr && within == 0);
    return *device;
  }
  void access(BusDevice& device, uint64_t size) {
    const size_t width = std::min<uint64_t>(input_.PickValueInArray(kWidths), size);
    const uint64_t offset = number(size - width);
    (void)device.name_of(offset, true);
    if (input_.ConsumeBool())
      (void)fakes::read_register(device, offset, width);
    else
      fakes::write_register(device, offset, input_.ConsumeIntegral<uint64_t>(), width);
  }
  void port(uint16_t port, uint64_t value, size_t width = 1) {
    for (const auto& range : card_->port_ranges())
      if (port >= range.first && port < range.first + range.ports)
        fakes::write_register(*range.device, port - range.first, value, width);
  }
  void indexed(int first, uint64_t last_index) {
    const uint64_t index = number(last_index);
    port(static_cast<uint16_t>(first), input_.ConsumeIntegral<uint8_t>() * 256u + index, 2);
  }
  void attribute() {
    (void)fakes::read_register(*card_->port_ranges()[5].device, 0, 1);
    port(0x3c0, number(0x3f));
    if (input_.ConsumeBool()) port(0x3c0, input_.ConsumeIntegral<uint8_t>());
  }
  void set(uint16_t index, uint16_t value) {
    port(0x1ce, index, 2);
    port(0x1cf, value, 2);
  }
  void display() {
    const auto index = static_cast<uint16_t>(number(devices::vga::kDisplayRegisters));
    switch (index) {
      case devices::vga::kBitsPerPixel:
        set(index, input_.PickValueInArray<uint16_t>({4, 8, 15, 16, 24, 32, 7, 0xffff}));
        break;
      case devices::vga::kEnable:
        set(index, input_.ConsumeIntegral<uint8_t>());
        break;
      default:
        set(index, static_cast<uint16_t>(number(input_.ConsumeBool() ? 600 : 0xffff)));
    }
    if (devices::vga::display_enabled(card_->state())) {
      const auto mode = devices::vga::display_mode(card_->state());
      const uint64_t last_line = uint64_t{mode.width} * mode.bits_per_pixel / 8;
      require(mode.width > 0 && mode.height > 0);
      require(mode.start_bytes + (mode.height - 1) * mode.line_bytes + last_line <= kVramBytes);
    }
  }

  void look() {
    const Picture before = seen_.pixels.size() <= kComparedPixels ? seen_ : Picture{};
    const auto changes = card_->update(seen_);
    card_->draw(whole_);
    require(whole_.width > 0 && whole_.width <= Picture::kMaxWidth);
    require(whole_.height > 0 && whole_.height <= Picture::kMaxHeight);
    require(seen_.width == whole_.width && seen_.height == whole_.height);
    require(seen_.pixels == whole_.pixels);
    require(changes.size() <= 64);
    for (const Rectangle& change : changes) {
      require(change.width > 0 && change.x + change.width <= seen_.width);
      require(change.height > 0 && change.y + change.height <= seen_.height);
    }
    if (before.width != seen_.width || before.height != seen_.height) return;
    if (before.pixels == seen_.pixels) return;
    const auto in_change = [&](uint32_t x, uint32_t y) {
      return std::ranges::any_of(
          changes, [&](const Rectangle& c) { return x - c.x < c.width && y - c.y < c.height; });
    };
    for (size_t i = 0; i < before.pixels.size(); ++i)
      if (before.pixels[i] != seen_.pixels[i])
        require(in_change(static_cast<uint32_t>(i % seen_.width),
                          static_cast<uint32_t>(i / seen_.width)));
  }

  FuzzedDataProvider& input_;
  Log log_;
  std::vector<uint64_t> words_ = std::vector<uint64_t>(kVramBytes / 8);
  const std::unique_ptr<Vga> card_ = std::make_unique<Vga>(
      std::as_writable_bytes(std::span(words_)), log_, devices::PciFunction::Moved{});
  Picture seen_;
  Picture whole_;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  spdlog::set_level(spdlog::level::off);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  Session session(input);
  while (input.remaining_bytes() > 0) session.step();
  session.finish();
  return 0;
}
