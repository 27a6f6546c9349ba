// One function per kind of console back end. Each opens its file or socket at once,
// so that errors are reported before the guest starts. The file of `log` (log_file.h) is truncated
// and gets a copy of the guest's output.
//
// Thread rule: called on the loop's thread, or before the loop runs.
#pragma once

#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "console/port.h"

namespace wick::console {

// The start of the line that a client of open_unix() gets if another client is connected already.
inline constexpr std::string_view kRefusal = "wick: refused: ";

// The actions of a terminal's escape keys (escape_keys.h), called on the loop's thread.
// An empty function does nothing.
struct TerminalKeys {
  std::function<void()> quit;          // for Ctrl-] q
  std::function<void()> power_button;  // for Ctrl-] p
};

// Opens standard input and output. If `in` is a terminal, it is put into raw mode, with the escape
// keys, until the port is destroyed; only one port at a time can use the terminal. The guest is
// told the terminal's size, and SIGWINCH is blocked from then on so that a signalfd can receive it.
// If `in` is not a terminal, its bytes go to the guest unchanged, and the end of the file is
// ignored.
Result<std::unique_ptr<Port>> open_stdio(EventLoop& loop, TerminalKeys keys, const LogFile& log,
                                         int in = STDIN_FILENO, int out = STDOUT_FILENO);

// Opens a pseudo terminal. The port's name() is the path that clients open, for
// example "/dev/pts/3". Each client first gets the output written since the previous client left.
Result<std::unique_ptr<Port>> open_pty(EventLoop& loop, const LogFile& log);

// Listens on a Unix stream socket at `path` (mode 0600) for one client at a time.
// Output that no client has received yet, at most 64 KiB, is sent to the next client.
// A second client at the same time gets a line of explanation and is disconnected. A
// stale socket is replaced; the file is removed when the port is destroyed. The
// stream carries the guest's bytes only, so a client cannot send a BREAK.
Result<std::unique_ptr<Port>> open_unix(EventLoop& loop, const std::string& path,
                                        const LogFile& log);

// Truncates the file at `path` and writes the guest's output to it; there is no input.
Result<std::unique_ptr<Port>> open_file(EventLoop& loop, const std::string& path,
                                        const LogFile& log);

// Writes the guest's output to standard error; there is no input.
Result<std::unique_ptr<Port>> open_stderr(EventLoop& loop, const LogFile& log);

// Makes a port that is connected to nothing on the host. The transcript and the log are still kept.
Result<std::unique_ptr<Port>> open_null(EventLoop& loop, const LogFile& log);

}  // namespace wick::console
