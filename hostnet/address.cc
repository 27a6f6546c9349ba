#include "hostnet/address.h"

namespace wick::hostnet {

using net::Ipv4Subnet;

namespace {

constexpr uint32_t address(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return a << 24 | b << 16 | c << 8 | d;
}

}  // namespace

Result<Ipv4Subnet> parse_network_address(std::string_view text) {
  constexpr const char* kExample = "for example 10.87.0.1/24";
  const auto subnet = net::parse_ipv4_subnet(text);
  if (!subnet || text.find('/') == std::string_view::npos)
    return fail("must be an IPv4 address with a prefix length, {}", kExample);
  if (subnet->prefix_bits < 8 || subnet->prefix_bits > 30)
    return fail("the prefix length must be 8 to 30, {}", kExample);
  if (subnet->address == subnet->first() || subnet->address == subnet->last())
    return fail("this is the address of a network, not of a host in it, for example {}",
                net::ipv4_string(Ipv4Subnet{subnet->first() + 1, subnet->prefix_bits}));
  const bool usable = subnet->first() >= address(1, 0, 0, 0) &&
                      subnet->last() < address(224, 0, 0, 0) &&
                      !subnet->overlaps({address(127, 0, 0, 0), 8});
  if (!usable) return fail("must be an address that a host can have, {}", kExample);
  return *subnet;
}

std::optional<std::string> overlap(const HostView& host, const Ipv4Subnet& subnet) {
  for (const HostLink& link : host.links)
    for (const Ipv4Subnet& other : link.addresses)
      if (subnet.overlaps(other))
        return fmt::format("{} on {}", net::ipv4_string(other), link.name);
  for (const HostRoute& route : host.routes)
    if (subnet.overlaps(route.destination))
      return fmt::format("the route to {} via {}", net::ipv4_string(route.destination),
                         route.interface.empty() ? "none" : route.interface);
  return std::nullopt;
}

Result<Ipv4Subnet> choose_address(const HostView& host) {
  constexpr uint32_t kOwn = 87;  // a part of 10.0.0.0/8 that is rarely used
  for (uint32_t i = 0; i < 512; ++i) {
    const Ipv4Subnet subnet{
        i < 256 ? address(10, kOwn, i, 1) : address(192, 168, (kOwn + i) & 0xff, 1), 24};
    if (!overlap(host, subnet)) return subnet;
  }
  return with_hint(fail("no free network in 10.{}.0.0/16 and 192.168.0.0/16", kOwn),
                   "choose one with --address");
}

AddressRange dhcp_range(const Ipv4Subnet& subnet) {
  const uint32_t size = subnet.last() - subnet.first() + 1;
  AddressRange range{subnet.first() + std::max(size / 8, 1u), subnet.last() - 1};
  if (subnet.address < range.first || subnet.address > range.last) return range;
  if (subnet.address - range.first > range.last - subnet.address)
    range.last = subnet.address - 1;
  else
    range.first = subnet.address + 1;
  return range;
}

}  // namespace wick::hostnet
