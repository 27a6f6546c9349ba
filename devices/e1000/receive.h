// The receiver of the 82540EM: puts packets of the network into receive descriptors.
//
// A packet is taken from the back end only while the ring has descriptors, and kept
// until there are enough of them. It is copied from a private buffer, so the guest gets
// the bytes that the filters checked. The back end may leave checksums undone and give
// packets larger than a frame, which costs fewer calls: the receiver computes checksums
// and makes segments itself.
//
// Thread rule: the loop's thread only.
//
// Specification: Intel 8254x Software Developer's Manual (317453), 3.2, and 9.3
// (VLANs).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/guest_memory.h"
#include "devices/e1000/registers.h"
#include "devices/e1000/rings.h"
#include "net/backend.h"
#include "net/offload.h"

namespace wick::devices::e1000 {

// Copies of the register values that one call of Receiver::run() uses.
struct ReceiveSettings {
  uint32_t rctl = 0;
  uint32_t rxcsum = 0;
  bool strip_vlan = false;
  uint16_t vlan_type = 0;
  std::array<uint32_t, 2 * kReceiveAddresses> addresses{};  // pairs of RAL and RAH
  std::array<uint32_t, kMulticastWords> multicasts{};
  std::array<uint32_t, kVlanWords> vlans{};

  enum class Match : uint8_t { kNone, kInexact, kExact };
  // Applies the packet filters (3.2.1). `frame` has at least an Ethernet header and a
  // VLAN tag.
  Match match(std::span<const std::byte> frame) const;
};

class Receiver {
 public:
  static constexpr uint32_t kMaxPackets = 64;  // the maximum number of packets in one turn

  struct Outcome {
    uint32_t head = 0;           // the new RDH
    bool drained = false;        // the back end has no more packets
    bool wants_buffers = false;  // the ring has too few descriptors
    bool overrun = false;        // a packet was dropped: a ring of this size cannot hold it
    uint32_t oversized = 0;
    uint32_t missed = 0;
    Tally tally;
  };

  Receiver(const GuestMemory& memory, net::Backend& backend);

  // Drops the packet that waits for descriptors.
  void reset() {
    left_bytes_ = 0;
    frames_ = {};
  }
  bool holds_packet() const { return left_bytes_ > 0; }

  // Fills descriptors, in a bounded turn that also ends when `epoch` is over.
  Outcome run(Ring ring, const ReceiveSettings& settings, const Epoch& epoch);

 private:
  // Enough for any frame in buffers of the smallest size, 256 bytes, and for some null
  // descriptors between them.
  static constexpr size_t kMaxBuffers = 128;

  struct Buffer {
    uint32_t index = 0;          // the index of its descriptor
    bool null = false;           // it belongs to a null descriptor (3.2.4)
    std::span<std::byte> bytes;  // empty if the buffer is not in RAM
    size_t filled = 0;
  };
  enum class Room : uint8_t { kEnough, kLater, kNever };

  bool fetch(const ReceiveSettings& settings, Outcome& outcome);
  bool admit(const ReceiveSettings& settings, std::span<std::byte> frame, Outcome& outcome);
  Room find_room(const Ring& ring, size_t buffer_bytes);
  void deliver(const Ring& ring);
  void copy_out(size_t offset, std::span<std::byte> to) const;

  const GuestMemory& memory_;
  net::Backend& backend_;

  // The last packet taken from the back end, with its header, and an iterator over its frames.
  const std::unique_ptr<std::byte[]> packet_;
  bool checksums_good_ = false;
  net::Segmenter frames_;

  // The frame that waits for descriptors, without its VLAN tag if that was stripped. The guest gets
  // padding and CRC after it, as zeroes; they are not part of the span.
  std::span<const std::byte> frame_;
  size_t left_bytes_ = 0;  // bytes of the frame with padding and CRC; 0: no frame waits
  ReceiveDescriptor::WriteBack written_;
  std::array<Buffer, kMaxBuffers> buffers_;
  size_t buffer_count_ = 0;
};

}  // namespace wick::devices::e1000
