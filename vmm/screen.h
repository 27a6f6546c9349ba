// The guest's screen and what a person has in front of it, as far as they survive a reset: the VNC
// server, the virtio keyboard and tablet, and the choice between these and the PS/2 devices of the
// board.
//
// Thread rule: created and destroyed on the main loop's thread; connect() and disconnect() there,
// too, while no vCPU runs. The rest on any thread.
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
  // `on_key` is called for each key that is pressed, on any thread: it wakes a guest that sleeps.
  static Result<std::unique_ptr<Screen>> create(const display::VncConfig& config,
                                                const std::string& machine, EventLoop& main_loop,
                                                std::function<void()> on_key);

  virtio::Input& keyboard() { return *keyboard_; }
  virtio::Input& tablet() { return *tablet_; }
  InputSink& input() { return input_; }
  // Where clients find it, for people.
  const std::string& address() const { return vnc_->address(); }
  const std::string& web_address() const { return vnc_->web_address(); }

  // The graphics card and the PS/2 devices of a new board. They must outlive the next disconnect().
  void connect(display::Source& card, devices::InputDevice& ps2_keyboard,
               devices::InputDevice& ps2_mouse);
  void disconnect();

  // While held, nothing that a person does is written to the guest's memory. On the main loop's
  // thread.
  void hold_input(bool held);
  // Presses keys, and releases them after `hold`, or before the next call presses others. On the
  // main loop's thread.
  void type(const std::vector<uint16_t>& codes, std::chrono::milliseconds hold);
  // What the screen shows now; empty while there is no graphics card. On the main loop's thread.
  display::Picture picture();

 private:
  // Passes the size of the picture on, which the scaling of a PS/2 mouse's movements needs.
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
  std::vector<uint16_t> typed_;  // held until the timer fires
  std::unique_ptr<virtio::Input> keyboard_;
  std::unique_ptr<virtio::Input> tablet_;
  std::unique_ptr<display::VncServer> vnc_;
};

}  // namespace wick::vmm
