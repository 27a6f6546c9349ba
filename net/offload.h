// Offloads in software, for a receiver that accepts only plain frames: fills in the checksum
// and segments large TCP and UDP packets, as their PacketHeader requests. The resulting frames
// are the same as the Linux kernel's.
//
// Thread rule: any thread; pure functions of their arguments.
// Specification: virtio 1.2, 5.1.6.2; RFC 1071 (checksum), RFC 3168, 6.1.2 (CWR), RFC 9293
// (TCP).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "net/packet.h"

namespace wick::net {

// The limit for segments per packet, against a hostile sender. An honest sender needs fewer
// segments: Linux's smallest segments have 48 bytes, of which TCP timestamps take 12, and a packet
// has less than 64 KiB.
constexpr size_t kMaxSegments = 2048;

// Splits a packet into frames, one at a time.
class Segmenter {
 public:
  Segmenter() = default;  // has no frames
  // Creates the Segmenter of `packet`, a PacketHeader and a frame. The frames are made in place and
  // overwrite the packet, which nobody else may change as long as the Segmenter is in use. Fails
  // for an inconsistent packet, before any frame is made.
  static Result<Segmenter> create(std::span<std::byte> packet);

  // Returns the next frame, which is valid until the next call; empty after the last.
  std::span<std::byte> next();

 private:
  // Offsets of the headers in a packet to be segmented.
  struct Layout {
    bool ip4 = false;
    bool tcp = false;
    size_t network = 0;
    size_t transport = 0;
    size_t payload = 0;
  };
  // The headers of a tagged frame, with all options.
  static constexpr size_t kMaxHeaderBytes = 14 + 4 + 60 + 60;

  static Result<Layout> find_headers(const PacketHeader& header, std::span<const std::byte> frame);
  Result<void> start_segments(const PacketHeader& header);
  std::span<std::byte> next_segment();
  void finish_segment(std::span<std::byte> segment, uint16_t number) const;

  std::span<std::byte> frame_;
  size_t segment_bytes_ = 0;  // size of each segment's payload; 0: the frame is not segmented
  size_t segments_ = 0;
  size_t made_ = 0;
  Layout layout_;
  std::array<std::byte, kMaxHeaderBytes> headers_{};
};

// Adds big-endian 16-bit words to the ones' complement sum `sum`; an odd last byte is the high
// byte of a word.
uint32_t add_to_checksum(uint32_t sum, std::span<const std::byte> bytes);
// Folds a sum of add_to_checksum() into a checksum.
uint16_t fold_checksum(uint32_t sum);

}  // namespace wick::net
