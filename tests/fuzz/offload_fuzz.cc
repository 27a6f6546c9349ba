// Packets with any header: Segmenter's frames lie inside the packet, and their number is bounded.
#include "net/offload.h"

#include <vector>

#include "tests/fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick;
  std::vector<std::byte> packet(size);
  std::copy(data, data + size, reinterpret_cast<uint8_t*>(packet.data()));
  size_t frames = 0;
  size_t bytes = 0;
  auto finished = net::Segmenter::create(packet);
  if (!finished) return 0;
  for (auto frame = finished->next(); !frame.empty(); frame = finished->next()) {
    fuzz::require(frame.data() >= packet.data() + sizeof(net::PacketHeader) &&
                  frame.data() + frame.size() <= packet.data() + packet.size());
    // The receiver owns each frame and may change it.
    std::ranges::fill(frame.subspan(frame.size() / 2), std::byte{0xa5});
    ++frames;
    bytes += frame.size();
  }
  fuzz::require(frames <= net::kMaxSegments);
  // Each frame repeats headers of at most 138 bytes.
  fuzz::require(bytes <= size + frames * 138);
  return 0;
}
