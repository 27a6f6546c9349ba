// IPv4 addresses and networks, as numbers in host byte order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace wick::net {

// An address with its prefix length, such as 10.87.0.1/24.
struct Ipv4Subnet {
  uint32_t address = 0;
  uint8_t prefix_bits = 32;

  uint32_t mask() const { return prefix_bits == 0 ? 0 : ~uint32_t{0} << (32 - prefix_bits); }
  uint32_t first() const { return address & mask(); }  // the network address
  uint32_t last() const { return address | ~mask(); }  // the broadcast address
  bool overlaps(const Ipv4Subnet& other) const {
    return first() <= other.last() && other.first() <= last();
  }

  friend bool operator==(const Ipv4Subnet&, const Ipv4Subnet&) = default;
};

std::string ipv4_string(uint32_t address);
std::string ipv4_string(const Ipv4Subnet& subnet);

// Parses an address; accepts only dotted decimal.
std::optional<uint32_t> parse_ipv4(std::string_view text);
// Parses an address with a prefix length. The prefix length is optional; the default is 32.
std::optional<Ipv4Subnet> parse_ipv4_subnet(std::string_view text);

}  // namespace wick::net
