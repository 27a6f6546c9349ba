// What the guest wrote: the last 64 KiB of it, whether its kernel panicked,
// and its last lines for the report at the end of a run. Readers follow it by
// position, each at its own pace, and whoever is too slow loses the oldest
// bytes; the guest never waits.
//
// Thread rule: any thread may call anything.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wick::console {

class Transcript {
 public:
  static constexpr size_t kKeptBytes = 64 << 10;

  // Bytes at a position: an offset into everything the guest ever wrote.
  struct Extent {
    uint64_t position = 0;
    size_t size_bytes = 0;
  };

  Transcript();

  // True when someone listens and has not been told since: wake them.
  bool append(std::span<const std::byte> bytes);

  // The next append() returns true; or, with false, none does.
  void listen(bool on);

  // Copies what was written from `position` on, as much as there is and fits.
  // Where those bytes are no longer kept, the oldest that are: the Extent's
  // position is then past `position`.
  Extent read(uint64_t position, std::span<std::byte> to) const;

  uint64_t oldest() const;  // the position of the first byte still kept
  uint64_t end() const;     // how much the guest has written so far

  // Linux said that it died (`Kernel panic - not syncing`, or what it says before
  // it can panic), as printk writes it, and went on in no way that shows it had not. A user who
  // prints the same, and then resets the machine without an orderly reboot, looks no different.
  bool panicked() const;

  // At most `count` lines, the last one perhaps unfinished, made fit for
  // printing: no escape sequences, no control characters, and of what a
  // carriage return overwrote only the last version.
  std::vector<std::string> last_lines(size_t count) const;

 private:
  std::string_view line_locked() const { return {line_.data(), line_size_}; }
  void end_line_locked();
  uint64_t oldest_locked() const { return end_ < kKeptBytes ? 0 : end_ - kKeptBytes; }

  const std::unique_ptr<std::array<std::byte, kKeptBytes>> kept_;

  mutable std::mutex mutex_;
  // Guarded by mutex_, with the bytes of kept_.
  uint64_t end_ = 0;
  bool listening_ = false;
  bool panicked_ = false;
  bool crash_kernel_ = false;        // another kernel started after the panic
  std::array<char, 256> line_ = {};  // the beginning of the line being written
  size_t line_size_ = 0;
};

// What follows `message` in `line`, if the kernel said it there: at the start,
// or behind one of printk's stamps ("[    1.234567]", "[    T1]", "<0>"), which may
// stand behind a line that somebody left unfinished.
std::optional<std::string_view> after_message(std::string_view line, std::string_view message);

// A line of terminal output as plain text; see Transcript::last_lines().
std::string printable(std::string_view line);

}  // namespace wick::console
