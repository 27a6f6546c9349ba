// Makes Ethernet frames from headers, for the tests of net/. Checksums are computed here
// word by word, as in RFC 1071, to be independent of net/offload.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace wick::fakes {

using Bytes = std::vector<std::byte>;
using Mac = std::array<uint8_t, 6>;

constexpr uint16_t kIp4Type = 0x0800;
constexpr uint16_t kArpType = 0x0806;
constexpr uint16_t kVlanType = 0x8100;
constexpr uint16_t kIp6Type = 0x86dd;
constexpr uint8_t kIcmp = 1;
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

enum TcpFlag : uint8_t { kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32, kCwr = 128 };

inline void append(Bytes& to, std::span<const std::byte> what) {
  to.insert(to.end(), what.begin(), what.end());
}
inline void append8(Bytes& to, uint8_t value) { to.push_back(std::byte{value}); }
inline void append16(Bytes& to, uint16_t value) {
  append8(to, static_cast<uint8_t>(value >> 8));
  append8(to, static_cast<uint8_t>(value));
}
inline void append32(Bytes& to, uint32_t value) {
  append16(to, static_cast<uint16_t>(value >> 16));
  append16(to, static_cast<uint16_t>(value));
}

inline Bytes bytes_of(std::string_view text) {
  const auto view = wick::as_bytes(text.data(), text.size());
  return {view.begin(), view.end()};
}
inline Bytes counting_bytes(size_t count, uint8_t first = 0) {
  Bytes bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(first + i * 7 + i / 256);
  return bytes;
}

inline uint16_t get16(std::span<const std::byte> from, size_t at) {
  return load_be<uint16_t>(from.subspan(at));
}
inline uint32_t get32(std::span<const std::byte> from, size_t at) {
  return load_be<uint32_t>(from.subspan(at));
}
inline uint8_t get8(std::span<const std::byte> from, size_t at) {
  return static_cast<uint8_t>(from[at]);
}

// RFC 1071, 1: the sum, without the final complement.
inline uint16_t ones_complement_sum(std::span<const std::byte> bytes, uint32_t sum = 0) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint32_t>(bytes[i]);
    sum += i % 2 == 0 ? byte << 8 : byte;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

inline Bytes ethernet(const Mac& to, const Mac& from, uint16_t type, const Bytes& payload) {
  Bytes frame;
  for (const uint8_t byte : to) append8(frame, byte);
  for (const uint8_t byte : from) append8(frame, byte);
  append16(frame, type);
  append(frame, payload);
  return frame;
}

inline Bytes with_vlan(Bytes frame, uint16_t tag) {
  Bytes inserted;
  append16(inserted, kVlanType);
  append16(inserted, tag);
  frame.insert(frame.begin() + 12, inserted.begin(), inserted.end());
  return frame;
}

struct Ip4Header {
  uint32_t from = 0;
  uint32_t to = 0;
  uint8_t protocol = 0;
  uint16_t id = 0x1234;
  uint16_t fragment = 0;  // flags and offset
  uint8_t tos = 0;
  Bytes options = {};  // a multiple of 4
};

inline Bytes ip4(const Ip4Header& header, const Bytes& payload) {
  Bytes packet;
  const size_t header_bytes = 20 + header.options.size();
  append8(packet, static_cast<uint8_t>(0x40 + header_bytes / 4));
  append8(packet, header.tos);
  append16(packet, static_cast<uint16_t>(header_bytes + payload.size()));
  append16(packet, header.id);
  append16(packet, header.fragment);
  append8(packet, 64);
  append8(packet, header.protocol);
  append16(packet, 0);
  append32(packet, header.from);
  append32(packet, header.to);
  append(packet, header.options);
  store_be(std::span(packet).subspan(10), static_cast<uint16_t>(~ones_complement_sum(packet)));
  append(packet, payload);
  return packet;
}

using Ip6Address = std::array<uint8_t, 16>;

inline Bytes ip6(const Ip6Address& from, const Ip6Address& to, uint8_t next_header,
                 const Bytes& payload) {
  Bytes packet;
  append32(packet, 0x60000000);
  append16(packet, static_cast<uint16_t>(payload.size()));
  append8(packet, next_header);
  append8(packet, 64);
  for (const uint8_t byte : from) append8(packet, byte);
  for (const uint8_t byte : to) append8(packet, byte);
  append(packet, payload);
  return packet;
}

inline uint16_t pseudo_sum4(uint32_t from, uint32_t to, uint8_t protocol, size_t length) {
  Bytes pseudo;
  append32(pseudo, from);
  append32(pseudo, to);
  append16(pseudo, protocol);
  append16(pseudo, static_cast<uint16_t>(length));
  return ones_complement_sum(pseudo);
}
inline uint16_t pseudo_sum6(const Ip6Address& from, const Ip6Address& to, uint8_t protocol,
                            size_t length) {
  Bytes pseudo;
  for (const uint8_t byte : from) append8(pseudo, byte);
  for (const uint8_t byte : to) append8(pseudo, byte);
  append32(pseudo, static_cast<uint32_t>(length));
  append32(pseudo, protocol);
  return ones_complement_sum(pseudo);
}

struct TcpHeader {
  uint16_t from = 0;
  uint16_t to = 0;
  uint32_t sequence = 0;
  uint32_t acknowledged = 0;
  uint8_t flags = kAck;
  uint16_t window = 65535;
  uint16_t urgent = 0;
  Bytes options = {};  // a multiple of 4
};

// The checksum of the segment is 0.
inline Bytes tcp(const TcpHeader& header, const Bytes& payload) {
  Bytes segment;
  append16(segment, header.from);
  append16(segment, header.to);
  append32(segment, header.sequence);
  append32(segment, header.acknowledged);
  append8(segment, static_cast<uint8_t>((5 + header.options.size() / 4) << 4));
  append8(segment, header.flags);
  append16(segment, header.window);
  append16(segment, 0);
  append16(segment, header.urgent);
  append(segment, header.options);
  append(segment, payload);
  return segment;
}

inline Bytes udp(uint16_t from, uint16_t to, const Bytes& payload) {
  Bytes datagram;
  append16(datagram, from);
  append16(datagram, to);
  append16(datagram, static_cast<uint16_t>(8 + payload.size()));
  append16(datagram, 0);
  append(datagram, payload);
  return datagram;
}

inline size_t checksum_place(uint8_t protocol) {
  return protocol == kTcp ? 16 : protocol == kUdp ? 6 : 2;
}

// Sets the transport checksum, which includes the sum of the pseudo header.
inline Bytes with_checksum(Bytes transport, uint8_t protocol, uint16_t pseudo_sum) {
  const auto place = std::span(transport).subspan(checksum_place(protocol));
  auto sum = static_cast<uint16_t>(~ones_complement_sum(transport, pseudo_sum));
  if (sum == 0 && protocol == kUdp) sum = 0xffff;
  store_be(place, sum);
  return transport;
}

// Sets the checksum field to the sum of the pseudo header, as a stack does for a card that
// computes the rest.
inline Bytes with_partial_checksum(Bytes transport, uint8_t protocol, uint16_t pseudo_sum) {
  store_be(std::span(transport).subspan(checksum_place(protocol)), pseudo_sum);
  return transport;
}

// A router advertisement (RFC 4861, 4.2 and 4.6.2) that makes a host use fe80::bad as its
// router and configure an address in 2001:db8:bad::/64.
inline Bytes router_advertisement() {
  constexpr Ip6Address kRouter = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b, 0xad};
  constexpr Ip6Address kAllNodes = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  constexpr uint8_t kIcmp6 = 58;
  Bytes message;
  append32(message, 134u << 24);   // type
  append32(message, 0x4000'0708);  // hop limit 64; router lifetime 1800 s
  append32(message, 0);
  append32(message, 0);
  append32(message, 0x0304'40c0);  // prefix information: 64 bits, on-link, autonomous
  append32(message, 1800);
  append32(message, 1800);
  append32(message, 0);
  for (const uint32_t word : {0x2001'0db8u, 0x0bad'0000u, 0u, 0u}) append32(message, word);
  store_be(std::span(message).subspan(2),
           static_cast<uint16_t>(~ones_complement_sum(
               message, pseudo_sum6(kRouter, kAllNodes, kIcmp6, message.size()))));
  Bytes packet = ip6(kRouter, kAllNodes, kIcmp6, message);
  packet[7] = std::byte{255};  // hop limit; an advertisement with a lower one is invalid
  return ethernet({0x33, 0x33, 0, 0, 0, 1}, {0x52, 0x54, 0, 0x12, 0x34, 0x56}, kIp6Type, packet);
}

}  // namespace wick::fakes
