// Which addresses a network gets.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "hostnet/host_view.h"
#include "net/ipv4.h"

namespace wick::hostnet {

// --address: the host's own in a network of 8 to 30 bits.
Result<net::Ipv4Subnet> parse_network_address(std::string_view text);

// What of the host is in the way of a network, for people; or nothing.
std::optional<std::string> overlap(const HostView& host, const net::Ipv4Subnet& subnet);

// The first that nothing is in the way of: 10.87.0.1/24 to 10.87.255.1/24, then
// 192.168.87.1/24 and on, all round. The same host gives the same answer.
Result<net::Ipv4Subnet> choose_address(const HostView& host);

// The addresses that DHCP gives out: an eighth at the beginning, and the host's
// own, are left for those that are given by hand.
struct AddressRange {
  uint32_t first = 0;
  uint32_t last = 0;
};
AddressRange dhcp_range(const net::Ipv4Subnet& subnet);

}  // namespace wick::hostnet
