// Frames of the protocol between wick and a guest's init (guest/protocol.h). The guest is hostile:
// a frame that breaks the protocol's bounds ends the reading.
//
// Thread rule: one thread.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "guest/protocol.h"

namespace wick::guest {

using Payload = std::span<const std::byte>;

// Collects frames from bytes that arrive in pieces of any size. Keeps at most one frame.
class FrameReader {
 public:
  using Handle = std::function<Result<void>(const wick_frame& frame, Payload payload)>;

  // Calls `handle` for each frame that is complete, and returns the first error of `handle`. Fails
  // for a frame that a guest may not send. After an error, feed() must not be called again.
  Result<void> feed(Payload bytes, const Handle& handle);

 private:
  std::vector<std::byte> collected_;  // the start of a frame
};

// Appends a frame to `out`. `payload` has at most WICK_MAX_PAYLOAD_BYTES.
void append_frame(std::vector<std::byte>& out, wick_frame_type type, uint8_t stream,
                  Payload payload = {});

}  // namespace wick::guest
