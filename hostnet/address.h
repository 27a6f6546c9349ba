// Chooses and checks the addresses of a network.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "hostnet/host_view.h"
#include "net/ipv4.h"

namespace wick::hostnet {

// Parses --address: the host's own address and a prefix length of 8 to 30.
Result<net::Ipv4Subnet> parse_network_address(std::string_view text);

// Describes an address or route of the host that overlaps `subnet`; nullopt if there is none.
std::optional<std::string> overlap(const HostView& host, const net::Ipv4Subnet& subnet);

// Returns the first address without an overlap: 10.87.0.1/24 to 10.87.255.1/24, then all of
// 192.168.0.0/16, beginning with 192.168.87.1/24. The choice is deterministic.
Result<net::Ipv4Subnet> choose_address(const HostView& host);

// The addresses for DHCP. The first eighth of the network is left for static addresses; the host's
// own address is excluded.
struct AddressRange {
  uint32_t first = 0;
  uint32_t last = 0;
};
AddressRange dhcp_range(const net::Ipv4Subnet& subnet);

}  // namespace wick::hostnet
