// The kinds of console back end: who is at the host's end of a serial port.
// Each listens or opens at once, so that whatever is wrong is said before the
// guest starts. `log_path`, if not empty, names a file that is truncated and
// gets a copy of the guest's output.
//
// Thread rule: on the loop's thread, or before it runs.
#pragma once

#include <unistd.h>

#include <functional>
#include <memory>
#include <string>

#include "console/port.h"

namespace wick::console {

// What the escape keys of a terminal do besides sending a BREAK, on the loop;
// an empty function does nothing.
struct TerminalKeys {
  std::function<void()> quit;          // Ctrl-] q
  std::function<void()> power_button;  // Ctrl-] p
};

// Standard input and output. If `in` is a terminal it is raw, with the escape
// keys (escape_keys.h), until the port is destroyed; only one port can have it.
// The guest hears of its size; for that SIGWINCH is blocked from here on.
// Otherwise its bytes go to the guest as they are, and its end is no event.
Result<std::unique_ptr<Port>> open_stdio(EventLoop& loop, TerminalKeys keys,
                                         const std::string& log_path, int in = STDIN_FILENO,
                                         int out = STDOUT_FILENO);

// A pseudo terminal; the port's name() is the path to open, "/dev/pts/3". One
// client after the other may open it: each is first given what it missed.
Result<std::unique_ptr<Port>> open_pty(EventLoop& loop, const std::string& log_path);

// A Unix stream socket at `path` for one client at a time, its owner's alone
// (mode 0600). What nobody has been given yet, at most 64 KiB, is played to the
// next client. A second one at the same time is told so and hung up on. A
// socket that nobody listens at any more is replaced; the file is removed at
// the end. The stream is the guest's bytes and no more: it carries no BREAK.
Result<std::unique_ptr<Port>> open_unix(EventLoop& loop, const std::string& path,
                                        const std::string& log_path);

// A file, truncated; no input.
Result<std::unique_ptr<Port>> open_file(EventLoop& loop, const std::string& path,
                                        const std::string& log_path);

// Nobody.
Result<std::unique_ptr<Port>> open_null(EventLoop& loop, const std::string& log_path);

}  // namespace wick::console
