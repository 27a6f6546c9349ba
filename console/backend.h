// The host's end of a guest's serial port or console: where its bytes go and
// where its input comes from (terminal, unix socket, pty, file, nothing).
//
// Thread rule: write() from any thread, most often a vCPU in the middle of a
// register access, so it never blocks and never drops the guest's time; the
// other calls, and all calls of a Guest, on the loop that the back end was
// made with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace wick::console {

// Of a terminal, in characters.
struct Size {
  uint16_t columns = 0;
  uint16_t rows = 0;
  bool operator==(const Size&) const = default;
};

// The chip at the other end, as the back end sees it. Locks itself.
class Guest {
 public:
  virtual ~Guest() = default;
  // Takes what fits, perhaps nothing, and returns how much. Who could not take
  // everything calls Backend::input_wanted() when there is room again.
  virtual size_t input(std::span<const std::byte> bytes) = 0;
  // The line was held low: SysRq, kgdb.
  virtual void send_break() = 0;
  // The host's end is a terminal of this size from now on. A serial port has no
  // way to tell.
  virtual void resized(Size) {}
};

class Backend {
 public:
  virtual ~Backend() = default;

  // While the loop does not run, as disconnect(), which comes before the guest is
  // destroyed; what comes in meanwhile waits for the next guest.
  virtual void connect(Guest& guest) = 0;
  virtual void disconnect() = 0;

  // What the guest sent. Never blocks; what no one takes is dropped, oldest
  // first, beyond the back end's bounded buffer.
  virtual void write(std::span<const std::byte> bytes) = 0;

  // Any thread, also in the middle of the guest's own lock: a Guest that
  // refused input has room again. Only wakes the loop.
  virtual void input_wanted() = 0;

  // Hands everything written so far to the host as far as that is possible
  // without waiting long; called once, at the end of a run.
  virtual void flush() = 0;
};

}  // namespace wick::console
