#include "net/offload.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"

namespace wick::net {

namespace {

constexpr size_t kEthernetBytes = 14;
constexpr size_t kVlanBytes = 4;
constexpr size_t kIp4Bytes = 20;  // size of the header without options
constexpr size_t kIp6Bytes = 40;
constexpr size_t kTcpBytes = 20;  // size of the header without options
constexpr size_t kUdpBytes = 8;
constexpr size_t kTcpChecksum = 16;  // offset of the checksum in the header
constexpr size_t kUdpChecksum = 6;

constexpr uint16_t kEtherIp4 = 0x0800;
constexpr uint16_t kEtherIp6 = 0x86dd;
constexpr uint16_t kEtherVlan = 0x8100;
constexpr uint16_t kEtherServiceVlan = 0x88a8;
constexpr uint8_t kProtocolTcp = 6;
constexpr uint8_t kProtocolUdp = 17;

constexpr uint8_t kFin = 0x01;
constexpr uint8_t kPsh = 0x08;
constexpr uint8_t kCwr = 0x80;

}  // namespace

Result<Segmenter::Layout> Segmenter::find_headers(const PacketHeader& header,
                                                  std::span<const std::byte> frame) {
  Layout layout;
  const uint8_t kind = header.segmentation & static_cast<uint8_t>(~PacketHeader::kEcn);
  layout.tcp = kind == PacketHeader::kTcp4 || kind == PacketHeader::kTcp6;
  if (!layout.tcp && header.segmentation != PacketHeader::kUdp)
    return fail("segmentation of kind {:#x} is not offered", header.segmentation);

  if (frame.size() < kEthernetBytes + kVlanBytes) return fail("a frame without an IP header");
  uint16_t ether_type = load_be<uint16_t>(frame.subspan(kEthernetBytes - 2));
  layout.network = kEthernetBytes;
  if (ether_type == kEtherVlan || ether_type == kEtherServiceVlan) {
    ether_type = load_be<uint16_t>(frame.subspan(kEthernetBytes + 2));
    layout.network += kVlanBytes;
  }
  const auto network = frame.subspan(layout.network);
  uint8_t protocol = 0;
  if (ether_type == kEtherIp4 && kind != PacketHeader::kTcp6) {
    layout.ip4 = true;
    if (network.size() < kIp4Bytes) return fail("a truncated IPv4 header");
    const auto first = load_le<uint8_t>(network);
    const size_t header_bytes = size_t{first & 0xfu} * 4;
    if (first >> 4 != 4 || header_bytes < kIp4Bytes || header_bytes > network.size())
      return fail("an IPv4 header with a wrong length");
    // A fragment has the MF flag, or an offset that is not 0.
    if ((load_be<uint16_t>(network.subspan(6)) & 0x3fff) != 0)
      return fail("segmentation of an IPv4 fragment");
    protocol = load_le<uint8_t>(network.subspan(9));
    layout.transport = layout.network + header_bytes;
  } else if (ether_type == kEtherIp6 && kind != PacketHeader::kTcp4) {
    if (network.size() < kIp6Bytes) return fail("a truncated IPv6 header");
    if (load_le<uint8_t>(network) >> 4 != 6) return fail("an IPv6 header with a wrong version");
    protocol = load_le<uint8_t>(network.subspan(6));
    layout.transport = layout.network + kIp6Bytes;
  } else {
    return fail("segmentation for another protocol than the frame's");
  }
  // This check also refuses IPv6 extension headers.
  if (protocol != (layout.tcp ? kProtocolTcp : kProtocolUdp))
    return fail("segmentation for another transport than the packet's");

  const auto transport = frame.subspan(layout.transport);
  size_t transport_bytes = kUdpBytes;
  if (transport.size() < (layout.tcp ? kTcpBytes : kUdpBytes))
    return fail("a truncated transport header");
  if (layout.tcp) {
    transport_bytes = size_t{load_le<uint8_t>(transport.subspan(12))} / 16 * 4;
    if (transport_bytes < kTcpBytes || transport_bytes > transport.size())
      return fail("a TCP header with a wrong length");
  }
  layout.payload = layout.transport + transport_bytes;
  // virtio 1.2, 5.1.6.2.1: a driver that requests segmentation also sets NEEDS_CSUM.
  if ((header.flags & PacketHeader::kNeedsChecksum) == 0 ||
      header.checksum_start != layout.transport ||
      header.checksum_offset != (layout.tcp ? kTcpChecksum : kUdpChecksum))
    return fail("segmentation without the transport's checksum");
  return layout;
}

// Adapts the headers of a segment, which begin as a copy of the packet's headers.
void Segmenter::finish_segment(std::span<std::byte> segment, uint16_t number) const {
  const auto network = segment.subspan(layout_.network, layout_.transport - layout_.network);
  const auto transport = segment.subspan(layout_.transport);
  const auto transport_bytes = static_cast<uint16_t>(transport.size());
  uint32_t pseudo_header = 0;
  if (layout_.ip4) {
    store_be(network.subspan(2), static_cast<uint16_t>(network.size() + transport.size()));
    const auto id = load_be<uint16_t>(network.subspan(4));
    store_be(network.subspan(4), static_cast<uint16_t>(id + number));
    store_be(network.subspan(10), uint16_t{0});
    store_be(network.subspan(10), fold_checksum(add_to_checksum(0, network)));
    pseudo_header = add_to_checksum(0, network.subspan(12, 8));
  } else {
    store_be(network.subspan(4), transport_bytes);
    pseudo_header = add_to_checksum(0, network.subspan(8, 32));
  }
  pseudo_header += (layout_.tcp ? kProtocolTcp : kProtocolUdp) + uint32_t{transport_bytes};

  if (!layout_.tcp) store_be(transport.subspan(4), transport_bytes);
  const auto checksum = transport.subspan(layout_.tcp ? kTcpChecksum : kUdpChecksum);
  store_be(checksum, uint16_t{0});
  uint16_t sum = fold_checksum(add_to_checksum(pseudo_header, transport));
  // RFC 768: a checksum of 0 means "no checksum".
  if (!layout_.tcp && sum == 0) sum = 0xffff;
  store_be(checksum, sum);
}

Result<void> Segmenter::start_segments(const PacketHeader& header) {
  layout_ = TRY(find_headers(header, frame_));
  const size_t payload_bytes = frame_.size() - layout_.payload;
  segment_bytes_ = header.segment_bytes;
  if (segment_bytes_ == 0) return fail("segments of 0 bytes");
  segments_ = std::max<size_t>(1, (payload_bytes + segment_bytes_ - 1) / segment_bytes_);
  if (segments_ > kMaxSegments) return fail("{} segments in one packet", segments_);
  const size_t largest_bytes = layout_.payload + std::min(segment_bytes_, payload_bytes);
  if (largest_bytes - layout_.network > 0xffff) return fail("a segment of {} bytes", largest_bytes);
  std::ranges::copy(frame_.first(layout_.payload), headers_.begin());
  return {};
}

// Makes a segment in place, without copying the payload: the headers go directly before its
// part of the payload, over bytes of the previous segment.
std::span<std::byte> Segmenter::next_segment() {
  const auto headers = std::span(headers_).first(layout_.payload);
  const size_t done = made_ * segment_bytes_;
  const size_t part = std::min(segment_bytes_, frame_.size() - layout_.payload - done);
  const auto segment = frame_.subspan(done, headers.size() + part);
  std::ranges::copy(headers, segment.begin());
  if (layout_.tcp) {
    const auto transport = segment.subspan(layout_.transport);
    const auto sequence = load_be<uint32_t>(transport.subspan(4));
    store_be(transport.subspan(4), static_cast<uint32_t>(sequence + done));
    auto flags = load_le<uint8_t>(transport.subspan(13, 1));
    // RFC 3168, 6.1.2: only the first segment has CWR.
    if (made_ > 0) flags &= static_cast<uint8_t>(~kCwr);
    if (made_ + 1 < segments_) flags &= static_cast<uint8_t>(~(kFin | kPsh));
    store_le(transport.subspan(13, 1), flags);
  }
  finish_segment(segment, static_cast<uint16_t>(made_));
  return segment;
}

Result<Segmenter> Segmenter::create(std::span<std::byte> packet) {
  if (packet.size() < sizeof(PacketHeader)) return fail("a packet without a header");
  const auto header = load_le<PacketHeader>(packet);
  Segmenter frames;
  frames.frame_ = packet.subspan(sizeof(PacketHeader));
  if (frames.frame_.size() > kMaxFrameBytes)
    return fail("a frame of {} bytes", frames.frame_.size());
  if (header.segmentation != PacketHeader::kNone) {
    TRY(frames.start_segments(header));
    return frames;
  }
  frames.segments_ = 1;
  if ((header.flags & PacketHeader::kNeedsChecksum) != 0) {
    const size_t place = size_t{header.checksum_start} + header.checksum_offset;
    if (place + sizeof(uint16_t) > frames.frame_.size())
      return fail("a checksum outside the frame");
    // The checksum field already holds the sum of the pseudo header.
    const auto covered = frames.frame_.subspan(header.checksum_start);
    const uint16_t sum = fold_checksum(add_to_checksum(0, covered));
    // As in Linux (skb_checksum_help): 0xffff is required for UDP and equivalent for TCP.
    store_be(frames.frame_.subspan(place), sum == 0 ? uint16_t{0xffff} : sum);
  }
  return frames;
}

std::span<std::byte> Segmenter::next() {
  if (made_ == segments_) return {};
  const auto frame = segment_bytes_ == 0 ? frame_ : next_segment();
  ++made_;
  return frame;
}

uint32_t add_to_checksum(uint32_t sum, std::span<const std::byte> bytes) {
  // RFC 1071: the sum of byte-swapped words is the byte-swapped sum (2(B)), and wider words may
  // be summed if their carries are added (2(C)).
  uint64_t wide = 0;
  for (; bytes.size() >= 32; bytes = bytes.subspan(32)) {
    // GCC 12 generates twice as many instructions for _addcarry_u64.
    asm("addq (%1), %0\n\tadcq 8(%1), %0\n\tadcq 16(%1), %0\n\tadcq 24(%1), %0\n\tadcq $0, %0"
        : "+&r"(wide)
        : "r"(bytes.data()), "m"(*reinterpret_cast<const std::byte(*)[32]>(bytes.data()))
        : "cc");
  }
  wide = (wide & UINT32_MAX) + (wide >> 32);
  for (; bytes.size() >= 4; bytes = bytes.subspan(4)) wide += load_le<uint32_t>(bytes.first<4>());
  if (!bytes.empty()) wide += load_le<uint32_t>(bytes);  // load_le() extends them with zeroes
  while (wide >> 16 != 0) wide = (wide & 0xffff) + (wide >> 16);
  const uint32_t total = (sum & 0xffff) + (sum >> 16) + std::byteswap(static_cast<uint16_t>(wide));
  return (total & 0xffff) + (total >> 16);
}

uint16_t fold_checksum(uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace wick::net
