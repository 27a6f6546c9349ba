// A packet as the back ends of net/ carry it: a header, which says what is still
// to be done to the frame, and the Ethernet frame without its check sequence.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wick::net {

// Laid out as the kernel has it for a TAP with IFF_VNET_HDR, which is what virtio
// has too (virtio 1.2, 5.1.6, struct virtio_net_hdr): little-endian, as x86 is.
struct PacketHeader {
  // Flags.
  static constexpr uint8_t kNeedsChecksum = 1;
  static constexpr uint8_t kChecksumValid = 2;

  enum Segmentation : uint8_t {
    kNone = 0,
    kTcp4 = 1,
    kFragments = 3,  // of UDP over IP; deprecated
    kTcp6 = 4,
    kUdp = 5,     // datagrams
    kEcn = 0x80,  // a flag beside kTcp4 and kTcp6
  };

  uint8_t flags = 0;
  uint8_t segmentation = kNone;
  uint16_t header_bytes = 0;     // of all headers; a hint
  uint16_t segment_bytes = 0;    // of payload in each packet to be made
  uint16_t checksum_start = 0;   // the ones' complement sum from here to the frame's end…
  uint16_t checksum_offset = 0;  // …goes here, from checksum_start on
  uint16_t buffers = 0;          // of merged receive buffers; nothing to a back end
};
static_assert(sizeof(PacketHeader) == 12);

// An Ethernet header alone.
constexpr size_t kMinPacketBytes = sizeof(PacketHeader) + 14;

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
