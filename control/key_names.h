// The names of keys in QMP and the monitor, and the keys of Linux that the guest's keyboards
// know. A key also has a number, that of scan code set 1 with 0x80 added if the prefix 0xe0
// precedes it.
//
// Thread rule: none; the tables are constant.
//
// Specification: QEMU QMP Reference Manual, "QKeyCode" and "send-key".
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace wick::control {

// Of keys that are sent together.
constexpr size_t kMaxKeysAtOnce = 16;
constexpr std::chrono::milliseconds kDefaultKeyHold{100};
constexpr std::chrono::milliseconds kMaxKeyHold{60'000};

// KEY_* of <linux/input-event-codes.h> for a QKeyCode.
std::optional<uint16_t> find_key(std::string_view name);
// KEY_* for the number of a key. 0xe048 and 0xc8 are the same key.
std::optional<uint16_t> find_key(int64_t number);

// Parses the monitor's "ctrl-alt-delete": names, or numbers as 0x1e, joined by '-'. The error is
// for the user.
std::expected<std::vector<uint16_t>, std::string> parse_keys(std::string_view text);

}  // namespace wick::control
