#include "net/user_filter.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/bytes.h"

namespace wick::net {

namespace {

constexpr size_t kEthernetBytes = 14;
constexpr size_t kIp6Bytes = 40;
constexpr size_t kTcpBytes = 20;
constexpr size_t kUdpBytes = 8;
constexpr uint16_t kArpType = 0x0806;
constexpr uint16_t kIp4Type = 0x0800;
constexpr uint16_t kIp6Type = 0x86dd;
constexpr uint8_t kIcmp = 1;
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;
constexpr uint8_t kIcmpEcho = 8;
constexpr uint16_t kDhcpPort = 67;
constexpr uint16_t kDhcp6Port = 547;

constexpr uint16_t kAck = 0x10;
constexpr uint16_t kUrgent = 0x20;
constexpr uint16_t kFin = 0x01;
constexpr uint16_t kSyn = 0x02;
constexpr uint16_t kRst = 0x04;

constexpr size_t kMaxStations = 16;  // libslirp's DHCP server has 16 leases

// The fields of a frame that the filter needs.
template <typename Byte>
struct Parsed {
  uint8_t protocol = 0;
  bool fragment = false;
  std::span<Byte> from;       // the source address
  std::span<Byte> to;         // the destination address
  std::span<Byte> transport;  // as long as the network header says
};

// Parses an IP frame. Returns false for a frame that libslirp would drop or not use.
template <typename Byte>
bool parse(std::span<Byte> frame, Parsed<Byte>& out) {
  const auto network = frame.subspan(kEthernetBytes);
  if (load_be<uint16_t>(frame.subspan(12)) == kIp6Type) {
    if (network.size() < kIp6Bytes) return false;
    const size_t length = load_be<uint16_t>(network.subspan(4));
    if (length > network.size() - kIp6Bytes) return false;
    out.protocol = load_le<uint8_t>(network.subspan(6));
    out.from = network.subspan(8, 16);
    out.to = network.subspan(24, 16);
    out.transport = network.subspan(kIp6Bytes, length);
    return true;
  }
  if (network.size() < 20) return false;
  const auto first = load_le<uint8_t>(network);
  const size_t header_bytes = size_t{first} % 16 * 4;
  const size_t total_bytes = load_be<uint16_t>(network.subspan(2));
  if (first >> 4 != 4 || header_bytes < 20 || total_bytes < header_bytes ||
      total_bytes > network.size())
    return false;
  out.protocol = load_le<uint8_t>(network.subspan(9));
  // As in libslirp, a packet is a fragment if any bit of the flags and offset field except DF
  // is set.
  out.fragment = (load_be<uint16_t>(network.subspan(6)) & 0xbfff) != 0;
  out.from = network.subspan(12, 4);
  out.to = network.subspan(16, 4);
  out.transport = network.subspan(header_bytes, total_bytes - header_bytes);
  return true;
}

// Clears URG and updates the checksum for the changed word (RFC 1624, 3).
void clear_urgent(std::span<std::byte> tcp) {
  const auto word = load_be<uint16_t>(tcp.subspan(12));
  if ((word & kUrgent) == 0) return;
  const auto cleared = static_cast<uint16_t>(word & ~kUrgent);
  const auto checksum = load_be<uint16_t>(tcp.subspan(16));
  uint32_t sum = static_cast<uint16_t>(~checksum);
  sum += static_cast<uint16_t>(~word);
  sum += cleared;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  store_be(tcp.subspan(12), cleared);
  store_be(tcp.subspan(16), static_cast<uint16_t>(~sum));
}

uint16_t destination_port(std::span<const std::byte> transport) {
  return load_be<uint16_t>(transport.subspan(2));
}

// Returns the station's address (chaddr) in a DHCP request (RFC 2131, 2); nullopt for other frames.
std::optional<MacAddress> dhcp_station(const Parsed<std::byte>& parsed) {
  constexpr size_t kPlace = kUdpBytes + 28;
  if (parsed.protocol != kUdp || parsed.transport.size() < kPlace + sizeof(MacAddress) ||
      destination_port(parsed.transport) != kDhcpPort)
    return std::nullopt;
  return load_le<MacAddress>(parsed.transport.subspan(kPlace));
}

// Returns the key of a flow. The key has the whole flow, not its hash: a guest could find two flows
// with the same hash and reset one to make the filter forget the other.
std::array<std::byte, 37> flow_of(std::span<const std::byte> guest,
                                  std::span<const std::byte> guest_port,
                                  std::span<const std::byte> peer,
                                  std::span<const std::byte> peer_port) {
  std::array<std::byte, 37> flow{};
  auto end = flow.begin();
  for (const auto part : {guest, guest_port, peer, peer_port})
    end = std::ranges::copy(part, end).out;
  flow.back() = static_cast<std::byte>(guest.size());
  return flow;
}

// Returns the flow of a TCP segment from the guest.
std::array<std::byte, 37> sent_flow(const Parsed<std::byte>& parsed) {
  return flow_of(parsed.from, parsed.transport.first(2), parsed.to, parsed.transport.subspan(2, 2));
}

}  // namespace

UserFilter::Verdict UserFilter::judge(std::span<std::byte> frame, size_t open_sockets) {
  if (frame.size() < kEthernetBytes || frame.size() > kMaxFrameBytes) return Verdict::kIgnore;
  const auto type = load_be<uint16_t>(frame.subspan(12));
  if (type == kArpType) return Verdict::kPass;
  Parsed<std::byte> parsed;
  if ((type != kIp4Type && type != kIp6Type) || !parse(frame, parsed)) return Verdict::kIgnore;

  const bool full = open_sockets >= kMaxSockets;
  if (parsed.fragment) return Verdict::kFragment;
  bool opens = false;
  switch (parsed.protocol) {
    case kTcp: {
      if (parsed.transport.size() < kTcpBytes) return Verdict::kIgnore;
      clear_urgent(parsed.transport);
      const auto flags = load_be<uint16_t>(parsed.transport.subspan(12));
      opens = (flags & (kSyn | kAck)) == kSyn;
      const size_t header_bytes = size_t{load_le<uint8_t>(parsed.transport.subspan(12))} / 16 * 4;
      if (opens || (parsed.transport.size() <= header_bytes && (flags & kFin) == 0)) break;
      if (!take_segment(sent_flow(parsed), load_be<uint32_t>(parsed.transport.subspan(4))))
        return Verdict::kEarly;  // the guest will retransmit it
      break;
    }
    case kUdp: {
      if (parsed.transport.size() < kUdpBytes) return Verdict::kIgnore;
      const uint16_t port = destination_port(parsed.transport);
      opens = port != kDhcpPort && port != kDhcp6Port;
      if (const auto station = dhcp_station(parsed);
          station && unanswered_ >= kMaxUnanswered &&
          std::ranges::find(known_stations_, *station) == known_stations_.end())
        return Verdict::kTooManyAddresses;
      break;
    }
    case kIcmp:
      opens = type == kIp4Type && !parsed.transport.empty() &&
              load_le<uint8_t>(parsed.transport) == kIcmpEcho;
      break;
    default:
      break;
  }
  return opens && full ? Verdict::kTooManySockets : Verdict::kPass;
}

void UserFilter::on_frame_passed(std::span<std::byte> frame, bool answered, bool closed) {
  Parsed<std::byte> parsed;
  const auto type = load_be<uint16_t>(frame.subspan(12));
  if ((type != kIp4Type && type != kIp6Type) || !parse(frame, parsed)) return;
  // A RST alone does not remove the stream: libslirp ignores an invalid RST and keeps the
  // connection's segments.
  if (closed && parsed.protocol == kTcp) streams_.erase(sent_flow(parsed));
  if (type != kIp4Type) return;
  const auto station = dhcp_station(parsed);
  if (!station) return;
  const auto known = std::ranges::find(known_stations_, *station);
  if (!answered) {
    ++unanswered_;
    if (known != known_stations_.end()) known_stations_.erase(known);
  } else if (known == known_stations_.end() && known_stations_.size() < kMaxStations) {
    known_stations_.push_back(*station);
  }
}

// Counts a segment of a stream. Returns false if too many segments wait already; the next segment
// in order always passes.
bool UserFilter::take_segment(const Flow& flow, uint32_t sequence) {
  auto place = streams_.find(flow);
  if (place == streams_.end()) {
    if (streams_.size() >= kMaxFlows)
      std::erase_if(streams_, [](const auto& one) { return one.second.waiting.empty(); });
    if (streams_.size() >= kMaxFlows) return false;
    place = streams_.emplace(flow, Stream{sequence, {}}).first;
  }
  auto& [acknowledged, waiting] = place->second;
  if (waiting.size() < kMaxEarly) {
    waiting.push_back(sequence);
    return true;
  }
  return static_cast<int32_t>(sequence - acknowledged) <= 0;
}

void UserFilter::on_frame_to_guest(std::span<const std::byte> frame) {
  if (frame.size() < kEthernetBytes || streams_.empty()) return;
  const auto type = load_be<uint16_t>(frame.subspan(12));
  Parsed<const std::byte> parsed;
  if ((type != kIp4Type && type != kIp6Type) || !parse(frame, parsed) || parsed.protocol != kTcp ||
      parsed.transport.size() < kTcpBytes)
    return;
  const auto place = streams_.find(
      flow_of(parsed.to, parsed.transport.subspan(2, 2), parsed.from, parsed.transport.first(2)));
  if (place == streams_.end()) return;
  const auto flags = load_be<uint16_t>(parsed.transport.subspan(12));
  // A SYN from libslirp begins a new connection.
  if ((flags & (kRst | kSyn)) != 0) {
    streams_.erase(place);
  } else if ((flags & kAck) != 0) {
    auto& [acknowledged, waiting] = place->second;
    const auto next = load_be<uint32_t>(parsed.transport.subspan(8));
    acknowledged = next;
    std::erase_if(waiting,
                  [next](uint32_t sequence) { return static_cast<int32_t>(sequence - next) < 0; });
  }
}

}  // namespace wick::net
