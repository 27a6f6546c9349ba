// Ethernet addresses.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace wick::net {

using MacAddress = std::array<uint8_t, 6>;

// Parses "52:54:00:12:34:56".
std::optional<MacAddress> parse_any_mac(std::string_view text);

// Parses an address like parse_any_mac(), but accepts only unicast addresses other than all zeroes.
std::optional<MacAddress> parse_mac(std::string_view text);
std::string to_text(const MacAddress& mac);

// Returns a locally administered address (IEEE 802, 8.4) that depends on `seed` alone.
MacAddress derive_mac(std::string_view seed);

// Returns the host's machine-id(5); empty if it has none.
std::string host_machine_id();

}  // namespace wick::net
