// The answers to who asks where a neighbour is: ARP (RFC 826) and IPv6's neighbour
// discovery (RFC 4861, 4.3 and 4.4).
//
// Pure functions of their arguments; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace wick::net {

using Station = std::array<std::byte, 6>;

// What `station` answers to the frame as the one that is asked for; nothing when the
// frame asks for nobody.
std::vector<std::byte> answer_as(const Station& station, std::span<const std::byte> frame);

}  // namespace wick::net
