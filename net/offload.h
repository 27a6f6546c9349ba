// What a PacketHeader leaves to do, done in software: checksums filled in, and
// large TCP and UDP packets cut into segments, for a receiver that takes plain
// frames only. The frames are those that the Linux kernel makes of the same packet.
//
// Pure functions of their arguments; any thread.
// Virtio 1.2, 5.1.6.2; RFC 1071 (checksum), RFC 3168 6.1.2 (CWR), RFC 9293 (TCP).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "net/packet.h"

namespace wick::net {

// More segments than this come of no packet that a sender means well with: it is
// what the smallest segments of Linux (48 bytes, with options) make of the largest.
constexpr size_t kMaxSegments = 2048;

// The frames that a packet becomes, made one by one.
class FinishedFrames {
 public:
  FinishedFrames() = default;  // none
  // `packet` is a PacketHeader and a frame, which nobody else may change as long as
  // this is in use; its bytes are used up. A packet that contradicts itself is
  // refused before any frame is made of it.
  static Result<FinishedFrames> of(std::span<std::byte> packet);

  // The next one, which is the caller's until the next call; empty: there are no more.
  std::span<std::byte> next();

 private:
  // Where the headers of a packet that will be cut are.
  struct Layout {
    bool ip4 = false;
    bool tcp = false;
    size_t network = 0;
    size_t transport = 0;
    size_t payload = 0;
  };
  static constexpr size_t kMostHeaderBytes = 14 + 4 + 60 + 60;  // tagged, with all options

  static Result<Layout> find_headers(const PacketHeader& header, std::span<const std::byte> frame);
  Result<void> start_segments(const PacketHeader& header);
  std::span<std::byte> next_segment();
  void finish_segment(std::span<std::byte> segment, uint16_t number) const;

  std::span<std::byte> frame_;
  size_t segment_bytes_ = 0;  // of payload in each; 0: the frame stays whole
  size_t segments_ = 0;
  size_t made_ = 0;
  Layout layout_;
  std::array<std::byte, kMostHeaderBytes> headers_{};
};

// The ones' complement sum of big-endian 16-bit words, on top of `sum`; an odd
// last byte counts as the high one.
uint32_t add_to_checksum(uint32_t sum, std::span<const std::byte> bytes);
// The checksum of such a sum.
uint16_t fold_checksum(uint32_t sum);

}  // namespace wick::net
