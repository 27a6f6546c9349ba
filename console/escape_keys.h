// The keys on a terminal that wick handles itself; all other keys go to the guest. An
// escape is Ctrl-] followed by one of these keys:
//   q  quit      b  BREAK      p  power button      z  suspend
//   ?  help      Ctrl-]  sends a Ctrl-] to the guest
// Any other key after Ctrl-] does the same as `?`.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

namespace wick::console {

inline constexpr std::byte kEscapeKey{0x1d};  // Ctrl-]

class EscapeKeys {
 public:
  struct Actions {
    std::function<void(std::span<const std::byte>)> text;  // sends text to the guest
    std::function<void()> quit;
    std::function<void()> send_break;
    std::function<void()> power_button;
    std::function<void()> suspend;
    std::function<void()> help;
  };

  explicit EscapeKeys(Actions actions) : actions_(std::move(actions)) {}

  // Handles the keys in order. An escape may be split over two calls.
  void type(std::span<const std::byte> typed);

 private:
  const Actions actions_;
  bool escaped_ = false;  // the last byte was a Ctrl-]
};

}  // namespace wick::console
