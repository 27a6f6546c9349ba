// A packet as the back ends of net/ carry it: a header, which says what is still
// to be done to the frame, and the Ethernet frame without its check sequence.
#pragma once

#include <linux/virtio_net.h>

#include <cstddef>
#include <cstdint>

namespace wick::net {

// Laid out as the kernel has it for a TAP with IFF_VNET_HDR, which is what virtio
// 1.2, 5.1.6 has too (struct virtio_net_hdr): little-endian, on x86.
struct PacketHeader {
  static constexpr uint8_t kNeedsChecksum = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  static constexpr uint8_t kChecksumValid = VIRTIO_NET_HDR_F_DATA_VALID;

  enum Segmentation : uint8_t {
    kNone = VIRTIO_NET_HDR_GSO_NONE,
    kTcp4 = VIRTIO_NET_HDR_GSO_TCPV4,
    kUfo = VIRTIO_NET_HDR_GSO_UDP,  // IP fragments; deprecated
    kTcp6 = VIRTIO_NET_HDR_GSO_TCPV6,
    kUdp = 5,                       // VIRTIO_NET_HDR_GSO_UDP_L4: datagrams (virtio 1.2)
    kEcn = VIRTIO_NET_HDR_GSO_ECN,  // a flag beside kTcp4 and kTcp6
  };

  uint8_t flags = 0;
  uint8_t segmentation = kNone;
  uint16_t header_bytes = 0;     // of all headers; a hint
  uint16_t segment_bytes = 0;    // of payload in each packet to be made
  uint16_t checksum_start = 0;   // the ones' complement sum from here to the frame's end…
  uint16_t checksum_offset = 0;  // …goes here, from checksum_start on
  uint16_t buffers = 0;          // of merged receive buffers; nothing to a back end
};
static_assert(sizeof(PacketHeader) == sizeof(virtio_net_hdr_v1));

// The largest IP packet behind an Ethernet header, perhaps with a VLAN tag.
constexpr size_t kMaxFrameBytes = 65535 + 14 + 4;
constexpr size_t kMaxPacketBytes = sizeof(PacketHeader) + kMaxFrameBytes;

// What a receiver can finish by itself, so that the network need not.
struct Offloads {
  bool checksum = false;  // needed by all of the others
  bool tcp4 = false;
  bool tcp6 = false;
  bool ecn = false;
  bool udp = false;  // of both IP versions

  friend bool operator==(const Offloads&, const Offloads&) = default;
};

}  // namespace wick::net
