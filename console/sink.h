// Copies a transcript to a Stream, at the Stream's pace.
//
// Thread rule: the loop's thread only.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/stream.h"
#include "console/transcript.h"

namespace wick::console {

class Sink {
 public:
  enum class State {
    kCaughtUp,
    kBlocked,  // worth another try when the Stream is writable
    kBroken,   // never again; see error()
  };

  explicit Sink(const Transcript& transcript) : transcript_(transcript) {}

  // Goes on where the last Stream stopped, or with the oldest that is kept.
  void open(Stream stream);
  void close() { stream_ = {}; }
  const Stream& stream() const { return stream_; }

  State pump();

  // Pumps, and waits for the Stream as long as `deadline` allows.
  State flush(std::chrono::steady_clock::time_point deadline);

  // What an open Stream has not been given yet.
  uint64_t waiting_bytes() const { return transcript_.end() - position_; }
  // What it will never be given, since the last call.
  uint64_t take_dropped_bytes() { return std::exchange(dropped_bytes_, 0); }
  int error() const { return error_; }

 private:
  const Transcript& transcript_;
  Stream stream_;
  uint64_t position_ = 0;
  uint64_t dropped_bytes_ = 0;
  int error_ = 0;  // an errno value
};

}  // namespace wick::console
