// The transmitter of the 82540EM: from descriptors to packets for the network.
//
// A packet's data goes from the guest's memory straight to the back end. What the
// card has to look at or to change, it copies first, once: the headers. Checksums
// and segments are made by whoever needs them (net::PacketHeader).
//
// Only whole packets are taken off the ring.
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

// Of the registers, as they were when the turn began.
struct TransmitSettings {
  bool pad_short = false;
  bool vlan = false;
  uint16_t vlan_type = 0;
};

class Transmitter {
 public:
  // In one turn; a context descriptor counts as one.
  static constexpr uint32_t kMostPackets = 128;
  // Or until they have become as many frames, which the network may have to make.
  static constexpr uint32_t kMostFrames = 512;
  // A packet in more descriptors is dropped.
  static constexpr uint32_t kMostDescriptors = 512;

  struct Outcome {
    uint32_t head = 0;      // where the ring's is now
    bool progress = false;  // it moved
    bool reported = false;  // a descriptor was written back
    Tally tally;
    uint32_t segmentations = 0;
    uint32_t failed_segmentations = 0;
  };

  // `name` is for messages. All must outlive it.
  Transmitter(const GuestMemory& memory, net::Backend& backend, const std::string& name);

  // Forgets what earlier descriptors said.
  void reset();

  // Sends what is on the ring, in a bounded turn that ends with `epoch`.
  Outcome run(Ring ring, const TransmitSettings& settings, const Epoch& epoch);

 private:
  // In front of the data: the packet's header, and the frame's headers in two
  // parts around a VLAN tag. Behind it: padding.
  static constexpr size_t kPartsInFront = 4;
  static constexpr size_t kMostParts = kPartsInFront + kMostDescriptors + 1;

  // Where a tag goes: behind the addresses.
  static constexpr size_t kTagOffset = 12;

  struct Frame {
    std::optional<TransmitDescriptor> first;
    TransmitDescriptor last;
    size_t bytes = 0;
    bool broken = false;  // it cannot be sent
  };

  // The number of descriptors that were taken; 0 while the packet has no end.
  uint32_t take(const Ring& ring);
  void add_data(const TransmitDescriptor& descriptor);
  void send(const TransmitSettings& settings, Outcome& outcome);
  bool prepare_segmentation();
  void prepare_checksums();
  void request_checksum(size_t start, size_t offset, size_t last);
  void insert_checksum(size_t start, size_t offset, size_t end);
  void pull(size_t bytes);
  void insert_tag(uint16_t type, uint16_t tag);
  void put_in_front(const void* data, size_t bytes);
  void count(size_t added_bytes, Tally& tally);
  std::byte* head(size_t offset) { return head_.get() + offset; }

  const GuestMemory& memory_;
  net::Backend& backend_;
  const std::string& name_;
  RateLimit complaints_;

  // From one packet to the next: the two contexts of 3.3.7.1, and whether the rest
  // of a packet is still to be dropped.
  ContextDescriptor checksum_context_;
  ContextDescriptor segmentation_context_;
  bool dropping_ = false;

  // Of the packet at hand.
  Frame frame_;
  net::PacketHeader header_;
  std::array<std::byte, 4> tag_{};
  const std::unique_ptr<std::byte[]> head_;  // the copy of the frame's first bytes
  size_t head_bytes_ = 0;
  std::array<iovec, kMostParts> parts_{};
  size_t first_part_ = kPartsInFront;
  size_t end_part_ = kPartsInFront;
  std::array<uint32_t, kMostDescriptors> reports_{};  // descriptors to be written back
  size_t report_count_ = 0;
};

}  // namespace wick::devices::e1000
