// What a PacketHeader leaves to do, done in software: checksums filled in, and
// large TCP and UDP packets cut into segments, for a receiver that takes plain
// frames only. The frames are those that the Linux kernel makes of the same packet.
//
// Pure functions of their arguments; any thread.
// Virtio 1.2, 5.1.6.2; RFC 1071 (checksum), RFC 3168 6.1.2 (CWR), RFC 9293 (TCP).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/result.h"
#include "net/packet.h"

namespace wick::net {

// More segments than this come of no packet that a sender means well with: it is
// what the smallest segments of Linux (48 bytes, with options) make of the largest.
constexpr size_t kMaxSegments = 2048;

// The receiver of a finished frame, which is its own until it returns.
using FrameSink = std::function<void(std::span<std::byte> frame)>;

// `packet` is a PacketHeader and a frame, which nobody else may change meanwhile;
// its bytes are used up. Every frame goes to `sink`, in order. A packet that
// contradicts itself is refused before any of it does.
Result<void> finish_offloads(std::span<std::byte> packet, const FrameSink& sink);

// The ones' complement sum of big-endian 16-bit words, on top of `sum`; an odd
// last byte counts as the high one.
uint32_t add_to_checksum(uint32_t sum, std::span<const std::byte> bytes);
// The checksum of such a sum.
uint16_t fold_checksum(uint32_t sum);

}  // namespace wick::net
