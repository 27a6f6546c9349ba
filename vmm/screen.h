// The part of the guest's screen and input devices that survives a reset: the VNC server, the
// virtio keyboard and tablet, and the choice between the virtio and the PS/2 input devices.
//
// Thread rule: created and destroyed on the main loop's thread; connect() and disconnect() also
// there, while no vCPU runs. The rest on any thread unless noted.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "display/picture.h"
#include "display/vnc.h"
#include "virtio/input.h"
#include "vmm/seat.h"

namespace wick::vmm {

class Screen {
 public:
  // `on_key` is called on any thread for each key that is pressed. The machine uses it to wake a
  // sleeping guest.
  static Result<std::unique_ptr<Screen>> create(const display::VncConfig& config,
                                                const std::string& machine, EventLoop& main_loop,
                                                std::function<void()> on_key);

  virtio::Input& keyboard() { return *keyboard_; }
  virtio::Input& tablet() { return *tablet_; }
  InputSink& input() { return input_; }
  // Where a VNC client or a web browser finds the screen, as text for people.
  const std::string& address() const { return vnc_->address(); }
  const std::string& web_address() const { return vnc_->web_address(); }

  // Connects the graphics card and the PS/2 devices of a new board, which must live until the next
  // disconnect().
  void connect(display::Source& card, devices::InputDevice& ps2_keyboard,
               devices::InputDevice& ps2_mouse);
  void disconnect();

  // While input is held, no key or pointer event is written to the guest's memory. On the main
  // loop's thread.
  void hold_input(bool held);
  // Presses keys, and releases them after `hold`, or earlier if type() is called again. On the main
  // loop's thread.
  void type(const std::vector<uint16_t>& codes, std::chrono::milliseconds hold);
  // Returns what the screen shows now; empty while there is no graphics card. On the main loop's
  // thread.
  display::Picture picture();

 private:
  // Tells the seat the size of each picture, because the movements of the PS/2 mouse are scaled to
  // the picture's size.
  class Card final : public display::Source {
   public:
    explicit Card(Seat& seat) : seat_(seat) {}
    void set(display::Source* card) { card_ = card; }
    void draw(display::Picture& picture) override { card_->draw(picture); }
    void watch(bool watched) override { card_->watch(watched); }
    std::vector<display::Rectangle> update(display::Picture& picture) override;

   private:
    Seat& seat_;
    display::Source* card_ = nullptr;  // changed while the VNC server does not use it
  };
  class Input final : public InputSink {
   public:
    Input(Seat& seat, std::function<void()> on_key) : seat_(seat), on_key_(std::move(on_key)) {}
    void key(uint16_t code, bool down) override;
    void move_to(uint16_t x, uint16_t y) override { seat_.move_to(x, y); }
    void move_by(int dx, int dy) override { seat_.move_by(dx, dy); }
    void scroll(int steps) override { seat_.scroll(steps); }

   private:
    Seat& seat_;
    const std::function<void()> on_key_;
  };

  void release_typed();

  explicit Screen(std::function<void()> on_key) : input_(seat_, std::move(on_key)) {}

  Seat seat_;
  Input input_;
  Card card_{seat_};
  display::Source* connected_ = nullptr;
  EventLoop::Timer release_timer_;
  std::vector<uint16_t> typed_;  // keys that type() pressed, to be released by the timer
  std::unique_ptr<virtio::Input> keyboard_;
  std::unique_ptr<virtio::Input> tablet_;
  std::unique_ptr<display::VncServer> vnc_;
};

}  // namespace wick::vmm
