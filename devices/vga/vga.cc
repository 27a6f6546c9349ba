#include "devices/vga/vga.h"

#include <algorithm>

#include "base/bytes.h"
#include "devices/vga/bochs_display.h"
#include "devices/vga/screen.h"

namespace wick::devices {

namespace {

// Linux looks for the extended registers from revision 2 on.
constexpr PciFunction::Identity kIdentity{.vendor = 0x1234,
                                          .device = 0x1111,
                                          .subsystem_vendor = 0x1af4,
                                          .subsystem = 0x1100,
                                          .class_code = 0x030000,
                                          .revision = 2};

constexpr uint16_t kDisplayIndexPort = 0x1ce;
constexpr uint16_t kDisplayPorts = 4;  // a 16-bit access to 0x1d0 ends at 0x1d1

// QEMU, docs/specs/standard-vga.rst: the parts of BAR 2.
constexpr uint64_t kVgaPorts = 0x400, kVgaPortsEnd = 0x420;
constexpr uint64_t kDisplay = 0x500, kDisplayEnd = kDisplay + 2 * vga::kDisplayRegisters;
constexpr uint64_t kExtended = 0x600, kExtendedEnd = 0x608;
constexpr uint64_t kByteOrder = kExtended + 4;
constexpr uint32_t kLittleEndian = 0x1e1e1e1e, kBigEndian = 0xbebebebe;

constexpr std::array<std::string_view, vga::kDisplayRegisters> kDisplayNames = {
    "ID",       "width",    "height",        "bits per pixel",
    "enable",   "bank",     "virtual width", "virtual height",
    "X offset", "Y offset", "video memory"};

bool is_within(uint64_t offset, uint64_t first, uint64_t end) {
  return offset >= first && offset < end;
}

}  // namespace

Vga::Vga(std::span<std::byte> vram, DirtyPages& dirty_pages, PciFunction::Moved moved)
    : vram_(vram), dirty_pages_(dirty_pages), function_(kIdentity, nullptr) {
  function_.add_bar(kVramBar, static_cast<uint32_t>(vram.size()), vram_bar_, std::move(moved));
  function_.add_bar(kRegisterBar, kRegisterBytes, register_bar_);
}

std::array<Vga::PortRange, 6> Vga::port_ranges() {
  return {PortRange{kDisplayIndexPort, kDisplayPorts, &display_ports_, "display"},
          PortRange{vga::kCrtcIndexMono, 2, &mono_crtc_, "vga"},
          PortRange{vga::kInputStatus1Mono, 1, &mono_status_, "vga"},
          PortRange{vga::kAttribute, 16, &common_, "vga"},
          PortRange{vga::kCrtcIndex, 2, &crtc_, "vga"},
          PortRange{vga::kInputStatus1, 1, &status_, "vga"}};
}

Vga::State Vga::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

vga::Screen Vga::screen() const { return vga::screen_of(state(), vram_.size_bytes()); }

void Vga::draw(display::Picture& picture) { vga::draw(screen(), vram_, picture); }

void Vga::watch(bool watched) {
  if (watched != watched_) dirty_pages_.set_logging(watched);
  watched_ = watched;
  renderer_.forget();
}

std::vector<display::Rectangle> Vga::update(display::Picture& picture) {
  if (!watched_) renderer_.forget();
  // The pages are taken first: what the guest writes from now on is found by the next call.
  std::vector<uint64_t> written(vram_.bitmap_words());
  vram_.take_written(written);
  if (watched_) dirty_pages_.take(written);
  return renderer_.update(screen(), vram_, written, picture);
}

void Vga::write_display(uint16_t index, uint16_t value) {
  uint64_t cleared_bytes = 0;
  {
    const MutexLock lock(mutex_);
    cleared_bytes = vga::write_display(state_, index, value, vram_.size_bytes());
    if (index == vga::kEnable && (value & vga::kEnabled) != 0 && !vga::display_enabled(state_))
      warnings_.warn(
          "vga: the guest asks for {}x{} with {} bits per pixel, a mode that does not exist or "
          "does not fit",
          state_.display[vga::kWidth], state_.display[vga::kHeight],
          state_.display[vga::kBitsPerPixel]);
  }
  // Clears the memory without the lock, because that takes milliseconds.
  vram_.clear(cleared_bytes);
}

// --- ports --------------------------------------------------------------------

void Vga::Ports::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(card.mutex_);
  for (std::byte& byte : data)
    byte = std::byte{vga::read_port(card.state_, static_cast<uint16_t>(first + offset++))};
}

void Vga::Ports::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(card.mutex_);
  // A 16-bit write sets an index and then its data.
  for (const std::byte byte : data)
    vga::write_port(card.state_, static_cast<uint16_t>(first + offset++),
                    std::to_integer<uint8_t>(byte));
}

BusDevice::Name Vga::Ports::name_of(uint64_t offset, bool write) const {
  return {vga::port_name(static_cast<uint16_t>(first + offset), write), {}};
}

void Vga::DisplayPorts::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(card.mutex_);
  const State& state = card.state_;
  store_le(data, offset == 0
                     ? state.display_index
                     : vga::read_display(state, state.display_index, card.vram_.size_bytes()));
}

void Vga::DisplayPorts::write(uint64_t offset, std::span<const std::byte> data) {
  const auto value = load_le<uint16_t>(data);
  uint16_t index = 0;
  {
    const MutexLock lock(card.mutex_);
    if (offset == 0) card.state_.display_index = value;
    index = card.state_.display_index;
  }
  if (offset != 0) card.write_display(index, value);
}

BusDevice::Name Vga::DisplayPorts::name_of(uint64_t offset, bool /*write*/) const {
  return {offset == 0 ? "index" : "data", {}};
}

// --- memory -------------------------------------------------------------------

void Vga::Window::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(card.mutex_);
  for (std::byte& byte : data)
    byte = std::byte{vga::read_window(card.state_, card.vram_, offset++)};
}

void Vga::Window::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(card.mutex_);
  for (const std::byte byte : data)
    vga::write_window(card.state_, card.vram_, offset++, std::to_integer<uint8_t>(byte));
}

void Vga::VramBar::read(uint64_t offset, std::span<std::byte> data) {
  card.vram_.load(offset, card.vram_.size_bytes(), data);
}

void Vga::VramBar::write(uint64_t offset, std::span<const std::byte> data) {
  for (const std::byte byte : data) card.vram_.store_byte(offset++, std::to_integer<uint8_t>(byte));
}

// --- the registers in BAR 2 ---------------------------------------------------

uint8_t Vga::read_register_byte(uint64_t offset) {
  if (offset < kVgaPorts)
    return offset < edid_.size() ? std::to_integer<uint8_t>(edid_[offset]) : 0;
  if (offset < kVgaPortsEnd)
    return vga::read_port(state_, static_cast<uint16_t>(vga::kAttribute + offset - kVgaPorts));
  if (is_within(offset, kDisplay, kDisplayEnd)) {
    const uint64_t within = offset - kDisplay;
    const uint16_t value =
        vga::read_display(state_, static_cast<uint16_t>(within / 2), vram_.size_bytes());
    return static_cast<uint8_t>(value >> within % 2 * 8);
  }
  if (is_within(offset, kExtended, kExtendedEnd)) {
    const uint32_t value = offset >= kByteOrder ? state_.big_endian ? kBigEndian : kLittleEndian
                                                : uint32_t{kExtendedEnd - kExtended};
    return static_cast<uint8_t>(value >> offset % 4 * 8);
  }
  return 0;
}

void Vga::RegisterBar::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(card.mutex_);
  for (std::byte& byte : data) byte = std::byte{card.read_register_byte(offset++)};
}

void Vga::write_extended(uint64_t offset, std::span<const std::byte> data) {
  if (offset != kByteOrder || data.size() != sizeof(uint32_t)) return;
  const auto value = load_le<uint32_t>(data);
  if (value == kLittleEndian) state_.big_endian = false;
  if (value == kBigEndian) state_.big_endian = true;
}

void Vga::RegisterBar::write(uint64_t offset, std::span<const std::byte> data) {
  if (is_within(offset, kDisplay, kDisplayEnd)) {
    // An access of 32 bits writes two registers.
    for (; data.size() >= 2 && offset < kDisplayEnd && offset % 2 == 0; offset += 2) {
      card.write_display(static_cast<uint16_t>((offset - kDisplay) / 2), load_le<uint16_t>(data));
      data = data.subspan(2);
    }
    return;
  }
  const MutexLock lock(card.mutex_);
  if (is_within(offset, kVgaPorts, kVgaPortsEnd)) {
    for (const std::byte byte : data) {
      if (offset >= kVgaPortsEnd) return;
      vga::write_port(card.state_, static_cast<uint16_t>(vga::kAttribute + offset++ - kVgaPorts),
                      std::to_integer<uint8_t>(byte));
    }
    return;
  }
  card.write_extended(offset, data);
}

BusDevice::Name Vga::RegisterBar::name_of(uint64_t offset, bool write) const {
  if (offset < kVgaPorts) return {"EDID", {}};
  if (is_within(offset, kDisplay, kDisplayEnd)) return {kDisplayNames[(offset - kDisplay) / 2], {}};
  if (is_within(offset, kVgaPorts, kVgaPortsEnd))
    return {vga::port_name(static_cast<uint16_t>(vga::kAttribute + offset - kVgaPorts), write), {}};
  return {};
}

}  // namespace wick::devices
