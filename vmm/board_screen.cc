// The parts of a board that belong to a screen: the graphics card, the PS/2 keyboard and mouse.

#include "vmm/board.h"
#include "vmm/layout.h"

namespace wick::vmm {

Result<void> Board::build_screen(Screen& screen) {
  video_memory_ = TRY(VideoMemory::create(vm_, devices::Vga::kDefaultVramBytes));
  vga_ = std::make_unique<devices::Vga>(
      video_memory_->bytes(), *video_memory_,
      [this](uint64_t /*from*/, uint64_t to) { video_memory_->move(to); });
  for (const devices::Vga::PortRange& range : vga_->port_ranges())
    TRY(ports_.attach({range.first, range.ports}, *range.device, std::string(range.name)));
  TRY(mmio_.attach({devices::Vga::kWindow, devices::Vga::kWindowBytes}, vga_->window(), "vga"));
  TRY(attach_pci(layout::kVgaSlot, vga_->function(), 0, "vga"));

  keyboard_line_ = std::make_unique<IrqLine>(vm_, layout::kKeyboardIrq);
  mouse_line_ = std::make_unique<IrqLine>(vm_, layout::kMouseIrq);
  i8042_->plug(&ps2_keyboard_, &ps2_mouse_, *keyboard_line_, *mouse_line_);
  screen.connect(*vga_, ps2_keyboard_, ps2_mouse_);
  screen_ = &screen;
  return {};
}

}  // namespace wick::vmm
