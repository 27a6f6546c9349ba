// Keeps the last 64 KiB of the guest's output, detects a kernel panic in the output, and
// provides the last lines for the report at the end of a run. Each reader keeps its own
// position; a reader that is too slow loses the oldest bytes, so the guest never waits.
//
// Thread rule: any thread may call any function.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"

namespace wick::console {

class Transcript {
 public:
  static constexpr size_t kKeptBytes = 64 << 10;

  // A range of the output. `position` is an offset into everything that the guest has
  // written since it started.
  struct Extent {
    uint64_t position = 0;
    size_t size_bytes = 0;
  };

  Transcript();

  // Appends output of the guest. Returns true if listen(true) was called since append() last
  // returned true; the caller must then wake the readers.
  bool append(std::span<const std::byte> bytes);

  // listen(true) makes the next append() return true; listen(false) revokes that.
  void listen(bool on);

  // Copies output from `position` on, as much as exists and fits into `to`. If those
  // bytes are no longer kept, copies from the oldest kept byte: the Extent's position
  // is then greater than `position`.
  Extent read(uint64_t position, std::span<std::byte> to) const;

  uint64_t oldest() const;  // the position of the first byte still kept
  uint64_t end() const;     // the number of bytes that the guest has written so far

  // Returns true if Linux printed a panic message in printk's format (`Kernel panic -
  // not syncing`, or the message of a failure before panic() works), and no orderly
  // shutdown of the same kernel followed. A user who prints the same line and then
  // resets the machine without an orderly reboot is mistaken for a panic.
  bool panicked() const;

  // Makes panicked() return false until the next panic. Called when the machine starts again.
  void forget_panic();

  // Returns at most `count` lines, the last one perhaps unfinished, as plain text:
  // without escape sequences and control characters, and with only the last version
  // of text that a carriage return overwrote.
  std::vector<std::string> last_lines(size_t count) const;

 private:
  std::string_view line_locked() const REQUIRES(mutex_) { return {line_.data(), line_size_}; }
  void end_line_locked() REQUIRES(mutex_);
  uint64_t oldest_locked() const REQUIRES(mutex_) {
    return end_ < kKeptBytes ? 0 : end_ - kKeptBytes;
  }

  mutable Mutex mutex_;
  const std::unique_ptr<std::array<std::byte, kKeptBytes>> kept_ PT_GUARDED_BY(mutex_);
  uint64_t end_ GUARDED_BY(mutex_) = 0;
  bool listening_ GUARDED_BY(mutex_) = false;
  bool panicked_ GUARDED_BY(mutex_) = false;
  // Another kernel has started after the panic.
  bool crash_kernel_ GUARDED_BY(mutex_) = false;
  // The beginning of the line being written.
  std::array<char, 256> line_ GUARDED_BY(mutex_) = {};
  size_t line_size_ GUARDED_BY(mutex_) = 0;
};

// Returns the text after `message` in `line` if the kernel printed the message: it is
// at the start of the line, or after a printk prefix ("[    1.234567]", "[    T1]",
// "<0>"). Unfinished output of another program may precede the prefix.
std::optional<std::string_view> after_message(std::string_view line, std::string_view message);

// Returns a line of terminal output as plain text; see Transcript::last_lines().
std::string plain_text(std::string_view line);

}  // namespace wick::console
