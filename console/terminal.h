// A terminal in raw mode: every key goes to the guest (no echo, no line editing, no
// signal from Ctrl-C), and output is not post-processed. The guest sends its own
// carriage returns; wick's log lines must end with "\r\n" in this mode.
//
// The terminal's modes are restored when this object is destroyed, when the process
// exits (quick_exit() included), and when the process dies of a signal that can be
// caught: the object's handlers restore the modes, and then the signal gets its previous
// disposition.
//
// Job control: the modes are changed only while this process is in the terminal's
// foreground process group. A process started in the background, by a shell with `&`
// or by timeout(1), leaves the modes alone until it comes to the foreground. When a
// stopped process is continued in the foreground, its SIGCONT handler makes the
// terminal raw at once. A shell that moves a running process to the foreground sends
// no signal, so the user of this class calls follow() periodically while the process
// is in the background. SIGTTIN and SIGTTOU are ignored, so using the terminal in the
// background never stops the process; read(2) fails with EIO instead. A terminal that
// belongs to another session, as after setsid(1), is never changed.
#pragma once

#include <chrono>

#include "base/result.h"

namespace wick::console {

class RawTerminal {
 public:
  // How often the user of this class must call follow() while the process is in the background.
  static constexpr std::chrono::milliseconds kFollowPeriod{250};

  // A process may have at most one RawTerminal at a time. `fd` may be closed afterwards.
  static Result<RawTerminal> enter(int fd);

  // Makes the terminal raw if this process is in the foreground. Returns whether the process is in
  // the foreground. If the terminal controls no session, every process counts as in the foreground.
  bool follow();

  // Restores the terminal and stops the process group, as Ctrl-Z does. Returns when
  // the group is continued, or at once if there is no shell that could continue it.
  void suspend();

  RawTerminal(RawTerminal&& other) noexcept : entered_(std::exchange(other.entered_, false)) {}
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal();

 private:
  RawTerminal() = default;
  bool entered_ = true;
};

}  // namespace wick::console
