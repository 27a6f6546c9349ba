#include "net/ipv4.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>

namespace wick::net {

std::string ipv4_string(uint32_t address) {
  return fmt::format("{}.{}.{}.{}", address >> 24, address >> 16 & 0xff, address >> 8 & 0xff,
                     address & 0xff);
}

std::string ipv4_string(const Ipv4Subnet& subnet) {
  return fmt::format("{}/{}", ipv4_string(subnet.address), subnet.prefix_bits);
}

std::optional<uint32_t> parse_ipv4(std::string_view text) {
  const std::string terminated(text);
  in_addr address{};
  if (terminated.find('\0') != std::string::npos ||
      ::inet_pton(AF_INET, terminated.c_str(), &address) != 1)
    return std::nullopt;
  return ntohl(address.s_addr);
}

std::optional<Ipv4Subnet> parse_ipv4_subnet(std::string_view text) {
  const size_t slash = text.find('/');
  const auto address = parse_ipv4(text.substr(0, slash));
  if (!address) return std::nullopt;
  Ipv4Subnet subnet{*address};
  if (slash == std::string_view::npos) return subnet;
  const std::string_view bits = text.substr(slash + 1);
  const auto [end, error] =
      std::from_chars(bits.data(), bits.data() + bits.size(), subnet.prefix_bits);
  if (error != std::errc() || end != bits.data() + bits.size() || subnet.prefix_bits > 32)
    return std::nullopt;
  return subnet;
}

}  // namespace wick::net
