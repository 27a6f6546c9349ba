// What keeps the host from believing the guests behind an interface. By the kernel's
// defaults it takes addresses and a default route from any router advertisement
// (CVE-2020-13401), and other routes from redirects.
//
// Thread rule: none; functions.
#pragma once

#include <string>
#include <vector>

namespace wick::net {

// The paths of those to be 0. A host without IPv6 has none of them.
std::vector<std::string> ipv6_sysctls(const std::string& interface);

// Whether it is 0, or not there.
bool is_off(const std::string& sysctl);

}  // namespace wick::net
