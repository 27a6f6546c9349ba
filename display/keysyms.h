// Finds the key that a VNC client means, as a KEY_* code of <linux/input-event-codes.h>.
//
// Thread rule: pure functions.
// Specification: keysyms are X11's (<X11/keysymdef.h>); RFC 6143, 7.5.4. Scan codes are those of
// the QEMU Extended Key Event Message (the community's RFB specification, 7.5.8): XT set 1, with
// bit 7 for the prefix 0xe0.
#pragma once

#include <cstdint>
#include <optional>

namespace wick::display {

// Returns the key of a US keyboard that has this symbol, with or without Shift: the client presses
// the Shift key itself. Returns nullopt if no key has the symbol.
std::optional<uint16_t> key_of_keysym(uint32_t keysym);

// Returns the key with this scan code, whatever its symbol; nullopt if there is no such key.
std::optional<uint16_t> key_of_scan_code(uint32_t scan_code);

}  // namespace wick::display
