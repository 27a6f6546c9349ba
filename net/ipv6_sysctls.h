// The sysctls that must be 0 so that guests behind an interface cannot configure the host's
// IPv6. With the kernel's defaults the host takes addresses and a default route from any
// router advertisement (CVE-2020-13401), and other routes from redirects.
//
// Thread rule: any thread.
#pragma once

#include <string>
#include <vector>

namespace wick::net {

// Returns the paths of the sysctls of `interface`. They do not exist on a host without IPv6.
std::vector<std::string> ipv6_sysctls(const std::string& interface);

// Returns true if the sysctl is 0 or does not exist.
bool is_off(const std::string& sysctl);

}  // namespace wick::net
