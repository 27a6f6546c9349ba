// The caller's terminal while a command of wick exec has it: raw, with the escape keys of wick run,
// its size passed on.
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

  // The size of the terminal `fd`; 80 columns and 24 rows if it does not know it.
  static console::Size size_of(int fd);

  // Makes the terminal `fd` raw until this object is destroyed. The session must outlive it.
  static Result<std::unique_ptr<ExecTerminal>> enter(EventLoop& loop, guest::Session& session,
                                                     int fd, Actions actions);

  // Input that was read from the terminal.
  void type(std::span<const std::byte> typed) { keys_.type(typed); }

 private:
  void report_size();
  ExecTerminal(guest::Session& session, console::RawTerminal raw, int fd, Actions actions);
  void follow();

  guest::Session& session_;
  console::RawTerminal raw_;
  const Stream screen_;  // for the help text
  console::Size size_;   // that the session knows
  console::EscapeKeys keys_;
  std::optional<console::ResizeWatch> resize_watch_;
  EventLoop::Timer follow_timer_;
};

}  // namespace wick::cli
