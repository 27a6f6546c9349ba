#include "guest/frames.h"

#include <algorithm>

#include "base/bytes.h"

namespace wick::guest {

namespace {

static_assert(sizeof(wick_frame) == 8);
static_assert(sizeof(wick_exit) == 32);

bool is_output(uint8_t stream) { return stream == WICK_STDOUT || stream == WICK_STDERR; }

// Checks what the header alone tells about a frame.
Result<void> check(const wick_frame& frame) {
  const auto wrong = [&](const char* what) {
    return fail("a frame of type {} with stream {} and {} bytes: {}", frame.type, frame.stream,
                frame.length, what);
  };
  const auto expect = [&](bool stream_fits, uint32_t min_bytes,
                          uint32_t max_bytes) -> Result<void> {
    if (frame.reserved != 0) return wrong("its reserved field is not 0");
    if (!stream_fits) return wrong("it has another stream");
    if (frame.length < min_bytes || frame.length > max_bytes) return wrong("it has another length");
    return {};
  };
  switch (frame.type) {
    case WICK_FRAME_HELLO:
      return expect(frame.stream == 0, sizeof(uint32_t), sizeof(uint32_t));
    case WICK_FRAME_STARTED:
      return expect(frame.stream == 0, 0, 0);
    case WICK_FRAME_EXIT:
      return expect(frame.stream == 0, sizeof(wick_exit), sizeof(wick_exit));
    case WICK_FRAME_ERROR:
      return expect(frame.stream == 0, sizeof(uint32_t), sizeof(uint32_t) + WICK_MAX_ERROR_BYTES);
    case WICK_FRAME_NOT_COPIED:
      return expect(frame.stream == 0, 0, WICK_MAX_ERROR_BYTES);
    case WICK_FRAME_DATA:
      return expect(is_output(frame.stream), 1, WICK_MAX_PAYLOAD_BYTES);
    case WICK_FRAME_CREDIT:
      return expect(frame.stream == WICK_STDIN, sizeof(uint32_t), sizeof(uint32_t));
    default:
      return wrong("the type is unknown");
  }
}

}  // namespace

Result<void> FrameReader::feed(Payload bytes, const Handle& handle) {
  while (!bytes.empty()) {
    const auto take = [&](size_t wanted_bytes) {
      const size_t size = std::min(wanted_bytes - collected_.size(), bytes.size());
      collected_.insert(collected_.end(), bytes.begin(),
                        bytes.begin() + static_cast<std::ptrdiff_t>(size));
      bytes = bytes.subspan(size);
      return collected_.size() == wanted_bytes;
    };
    if (collected_.size() < sizeof(wick_frame) && !take(sizeof(wick_frame))) return {};
    const auto frame = load_le<wick_frame>(collected_);
    TRY(check(frame));
    if (!take(sizeof(frame) + frame.length)) return {};
    const auto handled = handle(frame, Payload(collected_).subspan(sizeof(frame)));
    collected_.clear();
    TRY(handled);
  }
  return {};
}

void append_frame(std::vector<std::byte>& out, wick_frame_type type, uint8_t stream,
                  Payload payload) {
  const wick_frame frame{.type = static_cast<uint8_t>(type),
                         .stream = stream,
                         .reserved = 0,
                         .length = static_cast<uint32_t>(payload.size())};
  const auto header = as_bytes(&frame, sizeof(frame));
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), payload.begin(), payload.end());
}

}  // namespace wick::guest
