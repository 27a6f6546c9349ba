// Copies a transcript to a non-blocking Stream.
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
    kBlocked,  // call pump() again when the Stream is writable
    kBroken,   // the Stream failed for good; see error()
  };

  explicit Sink(const Transcript& transcript) : transcript_(transcript) {}

  // Continues where the last Stream stopped, or with the oldest kept byte if that is later.
  void open(Stream stream);
  void close() { stream_ = {}; }
  const Stream& stream() const { return stream_; }

  State pump();

  // Pumps until the Stream has everything or `deadline` has passed.
  State flush(std::chrono::steady_clock::time_point deadline);

  // The position in the transcript of the next byte for the Stream.
  uint64_t position() const { return position_; }
  // The number of bytes that the open Stream has not been given yet.
  uint64_t waiting_bytes() const { return transcript_.end() - position_; }
  // The number of bytes lost since the last call, because the Stream was too slow.
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
