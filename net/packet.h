// The packets of net::Backend: a header, which says which offloads the frame still needs, and
// the Ethernet frame without its frame check sequence.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wick::net {

// The header of a packet. Its layout is that of a TAP with IFF_VNET_HDR and of virtio (virtio 1.2,
// 5.1.6, struct virtio_net_hdr), little-endian.
struct PacketHeader {
  // Values of `flags`.
  static constexpr uint8_t kNeedsChecksum = 1;
  static constexpr uint8_t kChecksumValid = 2;

  enum Segmentation : uint8_t {
    kNone = 0,
    kTcp4 = 1,
    kFragments = 3,  // a large UDP datagram, to be sent as IP fragments; deprecated
    kTcp6 = 4,
    kUdp = 5,     // large UDP data, to be sent as several datagrams
    kEcn = 0x80,  // a flag, combined with kTcp4 or kTcp6
  };

  uint8_t flags = 0;
  uint8_t segmentation = kNone;
  uint16_t header_bytes = 0;     // size of all headers of the frame; only a hint
  uint16_t segment_bytes = 0;    // size of each segment's payload
  uint16_t checksum_start = 0;   // the checksum covers the frame from here to its end
  uint16_t checksum_offset = 0;  // the checksum's place, relative to checksum_start
  uint16_t buffers = 0;          // number of merged receive buffers; back ends ignore it
};
static_assert(sizeof(PacketHeader) == 12);

// The smallest frame is an Ethernet header.
constexpr size_t kMinPacketBytes = sizeof(PacketHeader) + 14;

// The largest IP packet, with an Ethernet header and a VLAN tag.
constexpr size_t kMaxFrameBytes = 65535 + 14 + 4;
constexpr size_t kMaxPacketBytes = sizeof(PacketHeader) + kMaxFrameBytes;

// A set of offloads that the sender of a packet may leave to its receiver.
struct Offloads {
  bool checksum = false;  // required by all others
  bool tcp4 = false;
  bool tcp6 = false;
  bool ecn = false;
  bool udp = false;  // over IPv4 and IPv6

  // Returns true if a packet with this header needs no other offloads.
  constexpr bool cover(const PacketHeader& header) const {
    if ((header.flags & PacketHeader::kNeedsChecksum) != 0 && !checksum) return false;
    const bool has_ecn = (header.segmentation & PacketHeader::kEcn) != 0;
    if (has_ecn && !ecn) return false;
    switch (header.segmentation & ~PacketHeader::kEcn) {
      case PacketHeader::kNone:
        return !has_ecn;
      case PacketHeader::kTcp4:
        return tcp4;
      case PacketHeader::kTcp6:
        return tcp6;
      case PacketHeader::kUdp:
        return udp;
      default:
        return false;
    }
  }

  friend bool operator==(const Offloads&, const Offloads&) = default;
};
constexpr Offloads kAllOffloads{
    .checksum = true, .tcp4 = true, .tcp6 = true, .ecn = true, .udp = true};

}  // namespace wick::net
