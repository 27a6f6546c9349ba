// The keys that a VNC client means, as KEY_* codes of <linux/input-event-codes.h>.
//
// Thread rule: pure functions.
// Specification: keysyms are X11's (<X11/keysymdef.h>); RFC 6143, 7.5.4. Scan codes are those of
// the QEMU Extended Key Event Message (the community's RFB specification, 7.5.8): XT set 1, with
// bit 7 for the prefix 0xe0.
#pragma once

#include <cstdint>
#include <optional>

namespace wick::display {

// The key of a US keyboard that has this symbol, shifted or not: the client presses the Shift key
// itself. nullopt if no key has it.
std::optional<uint16_t> key_of_keysym(uint32_t keysym);

// The key with this scan code, whatever its symbol. nullopt if there is none.
std::optional<uint16_t> key_of_scan_code(uint32_t scan_code);

}  // namespace wick::display
