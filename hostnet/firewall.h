// Rules of others that would drop what guests send or get, in silence.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hostnet/state.h"

namespace wick::hostnet {

// What `nft -j list ruleset` says about the network: a line each, with the mend. A
// firewall that names the bridge somewhere was told of it, and is left in peace.
std::vector<std::string> firewall_warnings(std::string_view ruleset, const HostNetwork& network);
// The same of `iptables -S`, for kernels that have both.
std::vector<std::string> iptables_warnings(std::string_view rules, const HostNetwork& network);

// Looks at this host. What cannot be looked at gives no warning.
std::vector<std::string> firewall_warnings(const HostNetwork& network);

}  // namespace wick::hostnet
