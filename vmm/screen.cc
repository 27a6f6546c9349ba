#include "vmm/screen.h"

namespace wick::vmm {

std::vector<display::Rectangle> Screen::Card::update(display::Picture& picture) {
  auto changes = card_->update(picture);
  if (!changes.empty()) seat_.set_screen_size(picture.width, picture.height);
  return changes;
}

void Screen::Input::key(uint16_t code, bool down) {
  if (down) on_key_();
  seat_.key(code, down);
}

Result<std::unique_ptr<Screen>> Screen::create(const display::VncConfig& config,
                                               const std::string& machine, EventLoop& main_loop,
                                               std::function<void()> on_key) {
  using Kind = virtio::Input::Kind;
  std::unique_ptr<Screen> screen(new Screen(std::move(on_key)));
  screen->release_timer_ = TRY(main_loop.timer([&held = *screen] { held.release_typed(); }));
  screen->keyboard_ = TRY(virtio::Input::create(main_loop, Kind::kKeyboard));
  screen->tablet_ = TRY(virtio::Input::create(main_loop, Kind::kTablet));
  screen->vnc_ = TRY(display::VncServer::create(config, machine, nullptr, screen->input_));
  return screen;
}

void Screen::connect(display::Source& card, devices::InputDevice& ps2_keyboard,
                     devices::InputDevice& ps2_mouse) {
  seat_.set_devices({.ps2_keyboard = &ps2_keyboard,
                     .ps2_mouse = &ps2_mouse,
                     .virtio_keyboard = keyboard_.get(),
                     .virtio_tablet = tablet_.get()});
  connected_ = &card;
  card_.set(&card);
  vnc_->set_source(&card_);
}

void Screen::disconnect() {
  vnc_->set_source(nullptr);
  seat_.set_devices({});
  connected_ = nullptr;
}

void Screen::hold_input(bool held) {
  keyboard_->hold(held);
  tablet_->hold(held);
}

void Screen::type(const std::vector<uint16_t>& codes, std::chrono::milliseconds hold) {
  release_typed();
  for (const uint16_t code : codes) input_.key(code, true);
  typed_ = codes;
  release_timer_.arm(hold);
}

void Screen::release_typed() {
  for (auto code = typed_.rbegin(); code != typed_.rend(); ++code) input_.key(*code, false);
  typed_.clear();
}

display::Picture Screen::picture() {
  display::Picture picture;
  if (connected_ != nullptr) connected_->draw(picture);
  return picture;
}

}  // namespace wick::vmm
