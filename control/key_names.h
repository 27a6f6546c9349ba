// Finds Linux's key codes, which wick's keyboards use, for the names of keys in QMP and the
// monitor. A key also has a number: its scan code in set 1, plus 0x80 if the prefix 0xe0 precedes
// the code.
//
// Thread rule: any thread; the tables are constant.
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

// The limit for keys that are sent together.
constexpr size_t kMaxKeysAtOnce = 16;
constexpr std::chrono::milliseconds kDefaultKeyHold{100};
constexpr std::chrono::milliseconds kMaxKeyHold{60'000};

// Returns KEY_* of <linux/input-event-codes.h> for a QKeyCode; nullopt: there is no such key.
std::optional<uint16_t> find_key(std::string_view name);
// Returns KEY_* for the number of a key. 0xe048 and 0xc8 mean the same key.
std::optional<uint16_t> find_key(int64_t number);

// Parses the monitor's "ctrl-alt-delete": names, or numbers such as 0x1e, joined by '-'. An error
// is a message for the user.
std::expected<std::vector<uint16_t>, std::string> parse_keys(std::string_view text);

}  // namespace wick::control
