// A terminal whose every key goes to the guest: no echo, no line editing, no
// signals from Ctrl-C, and the output as the guest made it (its own carriage
// returns; so log lines meanwhile need "\r\n").
//
// The terminal comes back as it was when this object goes, and also when the
// process exits or dies of a signal that it can catch: the object's handlers
// restore it and pass the signal on to what was there before them. SIGCONT
// makes it raw again.
#pragma once

#include "base/result.h"

namespace wick::console {

class RawTerminal {
 public:
  // At most one at a time in a process; `fd` may be closed afterwards.
  static Result<RawTerminal> enter(int fd);

  RawTerminal(RawTerminal&& other) noexcept : entered_(std::exchange(other.entered_, false)) {}
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal();

 private:
  RawTerminal() = default;
  bool entered_ = true;
};

}  // namespace wick::console
