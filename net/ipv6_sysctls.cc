#include "net/ipv6_sysctls.h"

#include <fmt/format.h>

#include <fstream>

namespace wick::net {

std::vector<std::string> ipv6_sysctls(const std::string& interface) {
  std::vector<std::string> paths;
  for (const char* name : {"accept_ra", "autoconf", "accept_redirects"})
    paths.push_back(fmt::format("/proc/sys/net/ipv6/conf/{}/{}", interface, name));
  return paths;
}

bool is_off(const std::string& sysctl) {
  std::ifstream file(sysctl);
  int value = 0;
  return !(file >> value) || value == 0;
}

}  // namespace wick::net
