// The file in which dnsmasq keeps its DHCP leases. What it says of a guest's name
// is what the guest says: hostile.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/ipv4.h"

namespace wick::hostnet {

struct DhcpLease {
  int64_t expires = 0;  // seconds since the epoch; 0: never
  std::string mac;      // lower case
  uint32_t address = 0;
  std::string name;  // as the guest gave it; empty: it gave none

  friend bool operator==(const DhcpLease&, const DhcpLease&) = default;
};

// By address; a line that is no IPv4 lease is passed over.
std::vector<DhcpLease> parse_dhcp_leases(std::string_view text);

// "IP NAME NAME.DOMAIN" lines for a hosts file. Only names that a hosts file can
// hold, and none that would speak for the host itself (`localhost`, `host`, `host_name`)
// or be a proxy (`wpad`).
std::string hosts_lines(const std::vector<DhcpLease>& leases, const std::string& domain,
                        std::string_view host_name);

std::string dhcp_leases_path(const std::string& network);
// None if there is no file. The first MiB of it.
Result<std::vector<DhcpLease>> read_dhcp_leases(const std::string& network);

}  // namespace wick::hostnet
