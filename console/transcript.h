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
#include <span>
#include <string>
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

  // Linux said `Kernel panic - not syncing`.
  bool panicked() const;

  // At most `count` lines, the last one perhaps unfinished, made fit for
  // printing: no escape sequences, no control characters, and of what a
  // carriage return overwrote only the last version.
  std::vector<std::string> last_lines(size_t count) const;

 private:
  uint64_t oldest_locked() const { return end_ < kKeptBytes ? 0 : end_ - kKeptBytes; }

  const std::unique_ptr<std::array<std::byte, kKeptBytes>> kept_;

  mutable std::mutex mutex_;
  // Guarded by mutex_, with the bytes of kept_.
  uint64_t end_ = 0;
  bool listening_ = false;
  bool panicked_ = false;
  size_t panic_matched_ = 0;  // characters of the panic text seen just now
};

// A line of terminal output as plain text; see Transcript::last_lines().
std::string printable(std::string_view line);

}  // namespace wick::console
