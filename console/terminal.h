// A terminal whose every key goes to the guest: no echo, no line editing, no
// signals from Ctrl-C, and the output as the guest made it (its own carriage
// returns; so log lines meanwhile need "\r\n").
//
// The terminal comes back as it was when this object goes, and also when the
// process exits (quick_exit() included) or dies of a signal that it can catch:
// the object's handlers restore it and pass the signal on to what was there
// before them.
//
// Job control: only the terminal's foreground process group changes its modes.
// A process that a shell started with `&`, or timeout(1) in a group of its own,
// leaves them alone until it comes to the foreground. A stopped process that is
// continued there is raw again at once (SIGCONT); a shell that moves a running
// one there sends no signal, so whoever uses the terminal calls follow() now
// and then while it is in the background. Using the terminal there never stops
// the process: SIGTTIN and SIGTTOU are ignored, and read(2) fails with EIO. The
// terminal of another session, as after setsid(1), is left alone for good.
#pragma once

#include <chrono>

#include "base/result.h"

namespace wick::console {

class RawTerminal {
 public:
  // How often to call follow() in the background.
  static constexpr std::chrono::milliseconds kFollowPeriod{250};

  // At most one at a time in a process; `fd` may be closed afterwards.
  static Result<RawTerminal> enter(int fd);

  // Makes the terminal raw if this process is in the foreground, and returns
  // whether it is. A terminal that controls nobody has no background.
  bool follow();

  // Restores the terminal and stops the process group, as Ctrl-Z does. Returns
  // when it is continued, or at once where no shell could continue it.
  void suspend();

  RawTerminal(RawTerminal&& other) noexcept : entered_(std::exchange(other.entered_, false)) {}
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal();

 private:
  RawTerminal() = default;
  bool entered_ = true;
};

}  // namespace wick::console
