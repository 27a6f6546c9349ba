// The caller's terminal while a command of wick exec uses it. The terminal is raw, has the escape
// keys of wick run, and passes its size on to the guest.
//
// Thread rule: the main thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "base/event_loop.h"
#include "base/stream.h"
#include "console/backend.h"
#include "console/escape_keys.h"
#include "console/resize_watch.h"
#include "console/terminal.h"
#include "guest/session.h"

namespace wick::cli {

class ExecTerminal {
 public:
  struct Actions {
    std::function<void()> quit;          // Ctrl-] q
    std::function<void()> power_button;  // Ctrl-] p
  };

  // Returns the size of the terminal `fd`; 80 columns and 24 rows if the terminal does not know its
  // size.
  static console::Size size_of(int fd);

  // Makes the terminal `fd` raw until this object is destroyed. `session` must outlive this object.
  static Result<std::unique_ptr<ExecTerminal>> enter(EventLoop& loop, guest::Session& session,
                                                     int fd, Actions actions);

  // Handles input that was read from the terminal.
  void type(std::span<const std::byte> typed) { keys_.type(typed); }

 private:
  void report_size();
  ExecTerminal(guest::Session& session, console::RawTerminal raw, int fd, Actions actions);
  void follow();

  guest::Session& session_;
  console::RawTerminal raw_;
  const Stream screen_;  // where the help text is shown
  console::Size size_;   // the size that the session knows
  console::EscapeKeys keys_;
  std::optional<console::ResizeWatch> resize_watch_;
  EventLoop::Timer follow_timer_;
};

}  // namespace wick::cli
