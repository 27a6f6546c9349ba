// The receiver of the 82540EM: from packets of the network to descriptors.
//
// A packet is taken from the back end only when there are descriptors for it, and
// kept until there are enough. It is copied: what the guest sees of it is what the
// filter saw. The back end may leave checksums to us, and give us packets that are
// larger than frames, so that it has fewer: they are finished here.
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

// The registers that a received packet meets, as they were when the turn began.
struct ReceiveSettings {
  uint32_t rctl = 0;
  uint32_t rxcsum = 0;
  bool strip_vlan = false;
  uint16_t vlan_type = 0;
  std::array<uint32_t, 2 * kReceiveAddresses> addresses{};  // RAL and RAH in turn
  std::array<uint32_t, kMulticastWords> multicasts{};
  std::array<uint32_t, kVlanWords> vlans{};

  enum class Match : uint8_t { kNone, kInexact, kExact };
  // 3.2.1; `frame` is at least an Ethernet header and a tag.
  Match match(std::span<const std::byte> frame) const;
};

class Receiver {
 public:
  static constexpr uint32_t kMostPackets = 64;  // in one turn

  struct Outcome {
    uint32_t head = 0;           // where the ring's is now
    bool drained = false;        // the back end has no more
    bool wants_buffers = false;  // a packet waits for them
    bool overrun = false;        // one was dropped, since no ring of this size takes it
    uint32_t oversized = 0;
    uint32_t missed = 0;
    Tally tally;
  };

  Receiver(const GuestMemory& memory, net::Backend& backend);

  // Drops what waits.
  void reset() {
    left_bytes_ = 0;
    frames_ = {};
  }
  bool holds_packet() const { return left_bytes_ > 0; }

  // Fills descriptors, in a bounded turn that ends with `epoch`.
  Outcome run(Ring ring, const ReceiveSettings& settings, const Epoch& epoch);

 private:
  // Of 256 bytes each they hold any frame, with some that are null between them.
  static constexpr size_t kMostBuffers = 128;

  struct Buffer {
    uint32_t index = 0;  // of its descriptor
    bool null = false;
    std::span<std::byte> bytes;  // empty if it is not in RAM
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

  // The last packet of the back end, header first, and those of its frames that are
  // still to come.
  const std::unique_ptr<std::byte[]> packet_;
  bool checksums_good_ = false;
  net::Segmenter frames_;

  // The frame that waits, without its tag if that was stripped. On the wire there are
  // zeroes behind it: padding and the check sequence.
  std::span<const std::byte> frame_;
  size_t left_bytes_ = 0;  // with them; 0: there is none
  ReceiveDescriptor::WriteBack written_;
  std::array<Buffer, kMostBuffers> buffers_;
  size_t buffer_count_ = 0;
};

}  // namespace wick::devices::e1000
