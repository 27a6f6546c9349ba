#include "virtio/net_control.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/bytes.h"

namespace wick::virtio {

namespace {

using Bytes = std::span<const std::byte>;
using net::MacAddress;

constexpr uint16_t kTagged = 0x8100;  // IEEE 802.1Q

// The feature bits of an offload in both directions. An offload is negotiated if all its feature
// bits are negotiated.
struct OffloadBits {
  bool net::Offloads::*offload;
  uint64_t guest;
  uint64_t host;
};
constexpr OffloadBits kOffloads[] = {
    {&net::Offloads::checksum, feature_bit(VIRTIO_NET_F_GUEST_CSUM),
     feature_bit(VIRTIO_NET_F_CSUM)},
    {&net::Offloads::tcp4, feature_bit(VIRTIO_NET_F_GUEST_TSO4),
     feature_bit(VIRTIO_NET_F_HOST_TSO4)},
    {&net::Offloads::tcp6, feature_bit(VIRTIO_NET_F_GUEST_TSO6),
     feature_bit(VIRTIO_NET_F_HOST_TSO6)},
    {&net::Offloads::ecn, feature_bit(VIRTIO_NET_F_GUEST_ECN), feature_bit(VIRTIO_NET_F_HOST_ECN)},
    {&net::Offloads::udp,
     feature_bit(VIRTIO_NET_F_GUEST_USO4) | feature_bit(VIRTIO_NET_F_GUEST_USO6),
     feature_bit(VIRTIO_NET_F_HOST_USO)},
};

net::Offloads offloads_of(uint64_t features, uint64_t OffloadBits::*side) {
  net::Offloads offloads;
  for (const OffloadBits& bits : kOffloads) offloads.*bits.offload = (~features & bits.*side) == 0;
  return offloads;
}

uint64_t features_of(const net::Offloads& offloads, uint64_t OffloadBits::*side) {
  uint64_t features = 0;
  for (const OffloadBits& bits : kOffloads)
    if (offloads.*bits.offload) features |= bits.*side;
  return features;
}

// Returns `data` as a little-endian number; nullopt if its size is not that of T.
template <typename T>
std::optional<T> whole(Bytes data) {
  if (data.size() != sizeof(T)) return std::nullopt;
  return load_le<T>(data);
}

// Takes a table of addresses from the front of `data` (5.1.6.5.2).
std::optional<std::vector<MacAddress>> take_addresses(Bytes& data) {
  if (data.size() < 4) return std::nullopt;
  const size_t count = load_le<uint32_t>(data);
  data = data.subspan(4);
  if (count > data.size() / sizeof(MacAddress)) return std::nullopt;
  std::vector<MacAddress> addresses(count);
  if (count > 0) std::memcpy(addresses.data(), data.data(), count * sizeof(MacAddress));
  data = data.subspan(count * sizeof(MacAddress));
  return addresses;
}

bool set_receive_mode(NetSettings& settings, uint8_t command, Bytes data) {
  // Indexed by VIRTIO_NET_CTRL_RX_*.
  bool* const modes[] = {&settings.promiscuous,  &settings.all_multicast, &settings.all_unicast,
                         &settings.no_multicast, &settings.no_unicast,    &settings.no_broadcast};
  const auto on = whole<uint8_t>(data);
  if (!on || command >= std::size(modes)) return false;
  if (!settings.has(command < VIRTIO_NET_CTRL_RX_ALLUNI ? VIRTIO_NET_F_CTRL_RX
                                                        : VIRTIO_NET_F_CTRL_RX_EXTRA))
    return false;
  *modes[command] = *on != 0;
  return true;
}

bool set_addresses(NetSettings& settings, uint8_t command, Bytes data) {
  if (command == VIRTIO_NET_CTRL_MAC_TABLE_SET && settings.has(VIRTIO_NET_F_CTRL_RX)) {
    auto unicast = take_addresses(data);
    auto multicast = unicast ? take_addresses(data) : std::nullopt;
    if (!multicast || !data.empty()) return false;
    settings.unicast = *std::move(unicast);
    settings.multicast = *std::move(multicast);
    return true;
  }
  if (command != VIRTIO_NET_CTRL_MAC_ADDR_SET || !settings.has(VIRTIO_NET_F_CTRL_MAC_ADDR) ||
      data.size() != sizeof(MacAddress))
    return false;
  settings.mac = load_le<MacAddress>(data);
  return true;
}

bool set_vlan(NetSettings& settings, uint8_t command, Bytes data) {
  const auto vlan = whole<uint16_t>(data);
  if (!settings.has(VIRTIO_NET_F_CTRL_VLAN) || command > VIRTIO_NET_CTRL_VLAN_DEL || !vlan ||
      *vlan >= settings.vlans.size())
    return false;
  settings.vlans[*vlan] = command == VIRTIO_NET_CTRL_VLAN_ADD;
  return true;
}

bool set_pairs(NetSettings& settings, uint8_t command, Bytes data) {
  const auto pairs = whole<uint16_t>(data);
  if (!settings.has(VIRTIO_NET_F_MQ) || command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !pairs ||
      *pairs == 0 || *pairs > settings.max_pairs)
    return false;
  settings.pairs = *pairs;
  return true;
}

bool set_offloads(NetSettings& settings, uint8_t command, Bytes data) {
  const auto offloads = whole<uint64_t>(data);
  const uint64_t agreed = settings.features & features_of_guest(net::kAllOffloads);
  if (!settings.has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
      command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || !offloads || (*offloads & ~agreed) != 0)
    return false;
  settings.guest_offloads = guest_offloads_of(*offloads);
  return true;
}

}  // namespace

net::Offloads guest_offloads_of(uint64_t features) {
  return offloads_of(features, &OffloadBits::guest);
}
uint64_t features_of_guest(const net::Offloads& offloads) {
  return features_of(offloads, &OffloadBits::guest);
}
net::Offloads host_offloads_of(uint64_t features) {
  return offloads_of(features, &OffloadBits::host);
}
uint64_t features_of_host(const net::Offloads& offloads) {
  return features_of(offloads, &OffloadBits::host);
}

uint8_t NetSettings::execute(Bytes command) {
  if (command.size() < 2) return VIRTIO_NET_ERR;
  const auto number = static_cast<uint8_t>(command[1]);
  const Bytes data = command.subspan(2);
  bool done = false;
  switch (static_cast<uint8_t>(command[0])) {
    case VIRTIO_NET_CTRL_RX:
      done = set_receive_mode(*this, number, data);
      break;
    case VIRTIO_NET_CTRL_MAC:
      done = set_addresses(*this, number, data);
      break;
    case VIRTIO_NET_CTRL_VLAN:
      done = set_vlan(*this, number, data);
      break;
    case VIRTIO_NET_CTRL_ANNOUNCE:
      done = has(VIRTIO_NET_F_GUEST_ANNOUNCE) && number == VIRTIO_NET_CTRL_ANNOUNCE_ACK &&
             data.empty();
      announced = announced || done;
      break;
    case VIRTIO_NET_CTRL_MQ:
      done = set_pairs(*this, number, data);
      break;
    case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
      done = set_offloads(*this, number, data);
      break;
    default:
      break;
  }
  return done ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
}

bool NetSettings::accepts(Bytes start) const {
  if (promiscuous) return true;
  if (start.size() < sizeof(MacAddress)) return false;
  const auto destination = load_le<MacAddress>(start);
  if (has(VIRTIO_NET_F_CTRL_VLAN) && start.size() >= kStartBytes &&
      load_be<uint16_t>(start.subspan(12)) == kTagged &&
      !vlans[load_be<uint16_t>(start.subspan(14)) % vlans.size()])
    return false;
  const auto is_in = [&](const std::vector<MacAddress>& table) {
    return std::ranges::find(table, destination) != table.end();
  };
  if ((destination[0] & 1) == 0)
    return !no_unicast && (all_unicast || destination == mac || is_in(unicast));
  if (std::ranges::all_of(destination, [](uint8_t byte) { return byte == 0xff; }))
    return !no_broadcast;
  return !no_multicast && (all_multicast || is_in(multicast));
}

}  // namespace wick::virtio
