// dnsmasq's file of DHCP leases. The names in it come from guests and are untrusted.
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
  std::string name;  // the name that the guest gave; empty: none

  friend bool operator==(const DhcpLease&, const DhcpLease&) = default;
};

// Returns the leases sorted by address. Lines that are not IPv4 leases are skipped.
std::vector<DhcpLease> parse_dhcp_leases(std::string_view text);

// Returns "IP NAME NAME.DOMAIN" lines for a hosts file. Leaves out names that are not valid in
// such a file, the names of the host itself (`localhost`, `host`, `host_name`), and `wpad`, by
// which browsers find a proxy.
std::string hosts_lines(const std::vector<DhcpLease>& leases, const std::string& domain,
                        std::string_view host_name);

std::string dhcp_leases_path(const std::string& network);
// Reads the leases, from at most the first MiB of the file. Returns none if there is no file.
Result<std::vector<DhcpLease>> read_dhcp_leases(const std::string& network);

}  // namespace wick::hostnet
