// Replies to address resolution: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861, 4.3 and
// 4.4).
//
// Thread rule: any thread; pure functions of their arguments.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "net/mac_address.h"

namespace wick::net {

// Returns the reply to `frame`, an ARP request or a neighbour solicitation: a frame which says that
// `station` has the requested address. Returns an empty frame if `frame` is something else.
std::vector<std::byte> neighbour_reply(const MacAddress& station, std::span<const std::byte> frame);

}  // namespace wick::net
