// The standard VGA graphics card with Bochs' display interface, as QEMU has it (-vga std): SeaBIOS,
// OVMF and every operating system have drivers (Linux: bochs-drm).
//
// BAR 0 is the video memory, which belongs to the caller and may be a memory slot of KVM. BAR 2 has
// the EDID and all registers. The card also has the ports and the window of a VGA.
//
// Thread rule: made and destroyed while no vCPU runs. Any vCPU thread accesses the registers, any
// thread calls draw(), and one thread at a time calls watch() and update(); locks itself. Pictures
// are drawn without the lock, from a copy of the registers.
//
// Specification: QEMU, docs/specs/standard-vga.rst; IBM PS/2 Hardware Interface Technical
// Reference, "Video Subsystem".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/bus.h"
#include "base/log.h"
#include "base/mutex.h"
#include "devices/pci/function.h"
#include "devices/vga/dirty_pages.h"
#include "devices/vga/edid.h"
#include "devices/vga/memory.h"
#include "devices/vga/registers.h"
#include "devices/vga/renderer.h"
#include "devices/vga/vram.h"
#include "display/picture.h"

namespace wick::devices {

class Vga final : public display::Source {
 public:
  static constexpr uint32_t kDefaultVramBytes = 16 << 20;
  static constexpr uint32_t kRegisterBytes = 4096;  // the size of BAR 2
  static constexpr uint64_t kWindow = 0xa0000;      // the VGA's window on a PC
  static constexpr uint64_t kWindowBytes = vga::kWindowBytes;
  static constexpr size_t kVramBar = 0;
  static constexpr size_t kRegisterBar = 2;

  // The guest-visible state, without the video memory.
  using State = vga::State;

  // A range of the card's ports, at the addresses that they have on a PC.
  struct PortRange {
    uint16_t first = 0;
    uint16_t ports = 0;
    BusDevice* device = nullptr;
    std::string_view name;  // for statistics
  };

  // The size of `vram` is a power of two, from 256 KiB to 256 MiB. `vram` and `dirty_pages` must
  // outlive the card. `moved` is called when BAR 0 moves, with the host bridge's lock held.
  // Accesses to BAR 0 reach the card while the video memory is not mapped there.
  Vga(std::span<std::byte> vram, DirtyPages& dirty_pages, PciFunction::Moved moved);

  PciFunction& function() { return function_; }
  // Returns the ports, which the board attaches.
  std::array<PortRange, 6> port_ranges();
  BusDevice& window() { return window_; }

  void draw(display::Picture& picture) override;
  void watch(bool watched) override;
  std::vector<display::Rectangle> update(display::Picture& picture) override;

  State state() const;

 private:
  // A block of VGA ports, one byte each.
  struct Ports final : BusDevice {
    Ports(Vga& owner, uint16_t first_port) : card(owner), first(first_port) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    Vga& card;
    const uint16_t first;
  };
  // The ports of Bochs' display interface: 0x1ce is the index, 0x1cf and 0x1d0 are the data. Each
  // has 16 bits.
  struct DisplayPorts final : BusDevice {
    explicit DisplayPorts(Vga& owner) : card(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    Vga& card;
  };
  struct Window final : BusDevice {
    explicit Window(Vga& owner) : card(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Vga& card;
  };
  struct VramBar final : BusDevice {
    explicit VramBar(Vga& owner) : card(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Vga& card;
  };
  struct RegisterBar final : BusDevice {
    explicit RegisterBar(Vga& owner) : card(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    Vga& card;
  };

  vga::Screen screen() const EXCLUDES(mutex_);
  uint8_t read_register_byte(uint64_t offset) REQUIRES(mutex_);
  void write_extended(uint64_t offset, std::span<const std::byte> data) REQUIRES(mutex_);
  void write_display(uint16_t index, uint16_t value) EXCLUDES(mutex_);

  // Constant after construction.
  const std::array<std::byte, vga::kEdidBytes> edid_ = vga::make_edid();
  vga::Vram vram_;  // accesses need no lock
  DirtyPages& dirty_pages_;
  Ports mono_crtc_{*this, vga::kCrtcIndexMono};
  Ports mono_status_{*this, vga::kInputStatus1Mono};
  Ports common_{*this, vga::kAttribute};
  Ports crtc_{*this, vga::kCrtcIndex};
  Ports status_{*this, vga::kInputStatus1};
  DisplayPorts display_ports_{*this};
  Window window_{*this};
  VramBar vram_bar_{*this};
  RegisterBar register_bar_{*this};
  PciFunction function_;

  // Owned by the caller of watch() and update().
  bool watched_ = false;
  vga::Renderer renderer_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  RateLimit warnings_;
};

}  // namespace wick::devices
