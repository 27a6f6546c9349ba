#include "net/mac_address.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>

#include "base/hash.h"

namespace wick::net {

std::optional<MacAddress> parse_any_mac(std::string_view text) {
  MacAddress mac{};
  if (text.size() != 3 * mac.size() - 1) return std::nullopt;
  for (size_t i = 0; i < mac.size(); ++i) {
    const char* const digits = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(digits, digits + 2, mac[i], 16);
    if (error != std::errc{} || end != digits + 2) return std::nullopt;
    if (i + 1 < mac.size() && digits[2] != ':') return std::nullopt;
  }
  return mac;
}

std::optional<MacAddress> parse_mac(std::string_view text) {
  const auto mac = parse_any_mac(text);
  if (!mac || (mac->front() & 1) != 0 || *mac == MacAddress{}) return std::nullopt;
  return mac;
}

std::string to_text(const MacAddress& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3],
                     mac[4], mac[5]);
}

MacAddress derive_mac(std::string_view seed) {
  uint64_t hash = fnv1a(seed);
  hash ^= hash >> 32;  // also uses the upper bits, which FNV-1a mixes better
  MacAddress mac{};
  for (uint8_t& byte : mac) {
    byte = static_cast<uint8_t>(hash);
    hash >>= 8;
  }
  mac[0] = static_cast<uint8_t>((mac[0] & 0xfc) | 2);
  return mac;
}

std::string host_machine_id() {
  std::string id;
  std::ifstream("/etc/machine-id") >> id;
  return id;
}

}  // namespace wick::net
