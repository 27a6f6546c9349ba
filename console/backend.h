// The host's end of a guest's serial port or console: where the guest's output goes and
// where its input comes from (terminal, unix socket, pty, file, nothing).
//
// Thread rule: any thread may call write(). The caller is usually a vCPU in the
// middle of a register access, so write() never blocks. All other calls, and all
// calls of a Guest, are made on the loop that the back end was created with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace wick::console {

// The size of a terminal, in characters.
struct Size {
  uint16_t columns = 0;
  uint16_t rows = 0;
  bool operator==(const Size&) const = default;
};

// The guest's serial port or console device, as the back end sees it. Its functions do their own
// locking.
class Guest {
 public:
  virtual ~Guest() = default;
  // Takes as many bytes as fit, perhaps none, and returns the number taken. A guest that
  // did not take everything calls Backend::input_wanted() when it has room again.
  virtual size_t input(std::span<const std::byte> bytes) = 0;
  // Delivers a BREAK condition, which Linux uses for SysRq and kgdb.
  virtual void send_break() = 0;
  // The terminal at the host's end now has this size. A serial port ignores this:
  // it has no way to report a size to its driver.
  virtual void resized(Size) {}
};

class Backend {
 public:
  virtual ~Backend() = default;

  // connect() and disconnect() are called while the loop does not run. disconnect()
  // must be called before the guest is destroyed; input that arrives afterwards is
  // kept for the next guest.
  virtual void connect(Guest& guest) = 0;
  virtual void disconnect() = 0;

  // Outputs bytes of the guest. Never blocks: when the back end's bounded buffer is
  // full, the oldest bytes are dropped.
  virtual void write(std::span<const std::byte> bytes) = 0;

  // Announces that a Guest that refused input has room again. Any thread may call
  // this, even with the guest's own lock held: it only wakes the loop.
  virtual void input_wanted() = 0;

  // Hands the output written so far to the host, with a bounded wait. Called once, at
  // the end of a run.
  virtual void flush() = 0;

  // While held, the guest gets no input; arriving input waits. Used while the machine is paused.
  virtual void hold_guest_input(bool held) = 0;
};

}  // namespace wick::console
