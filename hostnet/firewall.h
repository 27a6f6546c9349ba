// Finds firewall rules of other programs that would silently drop the guests' packets.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hostnet/state.h"

namespace wick::hostnet {

// Returns warnings from the output of `nft -j list ruleset`, one line each, with a command that
// lets the packets pass. A table that mentions the bridge gives no warning, because the
// administrator has made rules for the bridge.
std::vector<std::string> firewall_warnings(std::string_view ruleset, const HostNetwork& network);
// Returns warnings from the output of `iptables -S`, for kernels with both nftables and iptables
// rules.
std::vector<std::string> iptables_warnings(std::string_view rules, const HostNetwork& network);

// Returns the warnings for this host; none if its rules cannot be read.
std::vector<std::string> firewall_warnings(const HostNetwork& network);

}  // namespace wick::hostnet
