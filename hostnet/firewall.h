// Finds firewall rules of other programs that would silently drop the guests' packets.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hostnet/state.h"

namespace wick::hostnet {

// Warnings from the output of `nft -j list ruleset`, one line each, with the command that
// fixes it. There is no warning for a table that mentions the bridge: its administrator has
// decided about it.
std::vector<std::string> firewall_warnings(std::string_view ruleset, const HostNetwork& network);
// The same of `iptables -S`, for kernels that have both.
std::vector<std::string> iptables_warnings(std::string_view rules, const HostNetwork& network);

// The warnings for this host. Rules that cannot be read give none.
std::vector<std::string> firewall_warnings(const HostNetwork& network);

}  // namespace wick::hostnet
