// The transmitter of the 82540EM: turns descriptors into packets for the network.
//
// A packet's payload goes from guest memory directly to the back end. Headers that the
// card must read or change are copied first, once. Checksums and segments are computed
// by the back end or its peer, if at all (net::PacketHeader).
//
// The head of the ring advances by whole packets only.
//
// Thread rule: the loop's thread only.
//
// Specification: Intel 8254x Software Developer's Manual (317453), 3.3 to 3.5.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/guest_memory.h"
#include "base/log.h"
#include "devices/e1000/rings.h"
#include "net/backend.h"

namespace wick::devices::e1000 {

// Copies of the register values that one call of Transmitter::run() uses.
struct TransmitSettings {
  bool pad_short = false;
  bool vlan = false;
  uint16_t vlan_type = 0;
};

class Transmitter {
 public:
  // The maximum number of packets in one turn; a context descriptor counts as a packet.
  static constexpr uint32_t kMaxPackets = 128;
  // A turn ends after this many frames, because the back end may have to make each
  // segment.
  static constexpr uint32_t kMaxFrames = 512;
  // A packet with more descriptors is dropped.
  static constexpr uint32_t kMaxDescriptors = 512;

  struct Outcome {
    uint32_t head = 0;      // the new TDH
    bool progress = false;  // the head has moved
    bool reported = false;  // a descriptor was written back
    Tally tally;
    uint32_t segmentations = 0;
    uint32_t failed_segmentations = 0;
  };

  // `name` is used in messages. `memory`, `backend` and `name` must outlive the transmitter.
  Transmitter(const GuestMemory& memory, net::Backend& backend, const std::string& name);

  // Discards the contexts of earlier descriptors.
  void reset();

  // Sends packets of the ring, in a bounded turn that also ends when `epoch` is over.
  Outcome run(Ring ring, const TransmitSettings& settings, const Epoch& epoch);

 private:
  // A packet is sent as a list of parts. Those before the data are the packet header, the frame's
  // headers before the VLAN tag, the tag, and the headers after it. The part after the data is
  // padding.
  static constexpr size_t kPartsInFront = 4;
  static constexpr size_t kMaxParts = kPartsInFront + kMaxDescriptors + 1;

  // A VLAN tag follows the two addresses.
  static constexpr size_t kTagOffset = 12;

  struct Frame {
    std::optional<TransmitDescriptor> first;
    TransmitDescriptor last;
    size_t bytes = 0;
    bool broken = false;  // the frame cannot be sent
  };

  // Gathers the next packet, or a context; returns its number of descriptors. Returns 0
  // if the ring has no descriptor with the end of the packet yet.
  uint32_t gather(const Ring& ring);
  void add_data(const TransmitDescriptor& descriptor);
  void send(const TransmitSettings& settings, Outcome& outcome);
  bool prepare_segmentation();
  void prepare_checksums();
  void request_checksum(size_t start, size_t offset, size_t last);
  void insert_checksum(size_t start, size_t offset, size_t end);
  void pull(size_t bytes);
  void insert_tag(uint16_t type, uint16_t tag);
  void prepend(const void* data, size_t bytes);
  void count(size_t added_bytes, Tally& tally);
  std::byte* head(size_t offset) { return head_.get() + offset; }

  const GuestMemory& memory_;
  net::Backend& backend_;
  const std::string& name_;
  RateLimit warnings_;

  // State kept from one packet to the next.
  ContextDescriptor checksum_context_;      // the last context without TSE (3.3.7.1)
  ContextDescriptor segmentation_context_;  // the last context with TSE (3.3.7.1)
  bool dropping_ = false;                   // the rest of a packet must be dropped

  // State of the current packet.
  Frame frame_;
  net::PacketHeader header_;
  std::array<std::byte, 4> tag_{};
  const std::unique_ptr<std::byte[]> head_;  // a copy of the frame's first bytes
  size_t head_bytes_ = 0;
  std::array<iovec, kMaxParts> parts_{};
  size_t first_part_ = kPartsInFront;
  size_t end_part_ = kPartsInFront;
  std::array<uint32_t, kMaxDescriptors> reports_{};  // descriptors to be written back (RS)
  size_t report_count_ = 0;
};

}  // namespace wick::devices::e1000
