// VLAN tags of Ethernet frames (IEEE 802.1Q and 802.1ad).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"

namespace wick::net {

// Returns true for a frame with two tags (QinQ). Such a frame may be 4 bytes longer, because
// operating systems do not reduce the MTU for a second tag.
inline bool has_two_tags(std::span<const std::byte> frame) {
  const auto is_tag = [&](size_t offset) {
    const auto type = load_be<uint16_t>(frame.subspan(offset));
    return type == 0x8100 || type == 0x88a8 || type == 0x9100;
  };
  return frame.size() >= 18 && is_tag(12) && is_tag(16);
}

}  // namespace wick::net
