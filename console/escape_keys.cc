#include "console/escape_keys.h"

#include <algorithm>

namespace wick::console {

namespace {

void press(const std::function<void()>& action) {
  if (action) action();
}

}  // namespace

void EscapeKeys::type(std::span<const std::byte> typed) {
  while (!typed.empty()) {
    if (!escaped_) {
      const auto escape = std::ranges::find(typed, kEscapeKey);
      const auto size = static_cast<size_t>(escape - typed.begin());
      if (size > 0) actions_.text(typed.first(size));
      if (size == typed.size()) return;
      escaped_ = true;
      typed = typed.subspan(size + 1);
      continue;
    }
    escaped_ = false;
    const auto key = typed.first(1);
    typed = typed.subspan(1);
    switch (static_cast<char>(key[0])) {
      case static_cast<char>(kEscapeKey):
        actions_.text(key);
        break;
      case 'q':
        press(actions_.quit);
        break;
      case 'b':
        press(actions_.send_break);
        break;
      case 'p':
        press(actions_.power_button);
        break;
      case 'z':
        press(actions_.suspend);
        break;
      default:
        press(actions_.help);
    }
  }
}

}  // namespace wick::console
