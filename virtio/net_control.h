// The settings of a network card that a driver changes through the control queue
// (virtio 1.2, 5.1.6.5), and the receive filter that follows from them.
//
// Plain values and pure functions; no thread rule.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "net/mac_address.h"
#include "net/packet.h"
#include "virtio/linux_headers.h"

namespace wick::virtio {

struct NetSettings {
  // Fixed at activation.
  uint64_t features = 0;  // the negotiated VIRTIO_NET_F_*, which decide what may be set
  uint16_t max_pairs = 1;
  uint16_t mtu = 0;             // the negotiated MTU; 0: no MTU was negotiated
  net::Offloads host_offloads;  // offloads that the driver's packets may use

  net::MacAddress mac{};
  // The receive modes (5.1.6.5.1 and 5.1.6.5.2). Initially the driver gets all frames.
  bool promiscuous = true;
  bool all_multicast = false;
  bool all_unicast = false;
  bool no_multicast = false;
  bool no_unicast = false;
  bool no_broadcast = false;
  std::vector<net::MacAddress> unicast;
  std::vector<net::MacAddress> multicast;
  std::bitset<4096> vlans;       // 5.1.6.5.3: tagged frames of these VLANs are received
  uint16_t pairs = 1;            // 5.1.6.5.5: the number of queue pairs in use
  net::Offloads guest_offloads;  // 5.1.6.5.6: offloads that packets to the driver may use
  bool announced = false;        // 5.1.6.5.4: the driver has acknowledged ANNOUNCE

  bool has(unsigned feature) const { return has_feature(features, feature); }

  // Returns the VLAN ids that are set in `vlans`.
  std::vector<uint16_t> vlan_ids() const {
    std::vector<uint16_t> ids;
    for (uint16_t id = 0; id < vlans.size(); ++id)
      if (vlans[id]) ids.push_back(id);
    return ids;
  }

  // Executes a command (class, number, data) and returns the status for the driver:
  // VIRTIO_NET_OK, or VIRTIO_NET_ERR if nothing was changed.
  uint8_t execute(std::span<const std::byte> command);

  static constexpr size_t kStartBytes = 18;
  // Returns whether the receive filter accepts a frame. `start` is the first kStartBytes of the
  // frame, or the whole frame if it is shorter.
  bool accepts(std::span<const std::byte> start) const;
};

// Convert between offloads and the feature bits VIRTIO_NET_F_GUEST_*. Other bits of `features` are
// ignored.
net::Offloads guest_offloads_of(uint64_t features);
uint64_t features_of_guest(const net::Offloads& offloads);
// Convert between offloads and the feature bits VIRTIO_NET_F_HOST_* and VIRTIO_NET_F_CSUM.
net::Offloads host_offloads_of(uint64_t features);
uint64_t features_of_host(const net::Offloads& offloads);

}  // namespace wick::virtio
