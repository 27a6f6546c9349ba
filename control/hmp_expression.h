// Expressions of the human monitor: integers (decimal, 0x, 0), 'c', registers ($rip), + - * / %
// & | ^ ~ and parentheses, in 64 bits that wrap. As in QEMU, & | and ^ bind weakest, all alike.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/inspector.h"

namespace wick::control {

// The value of "rip", "eax", "cr3", ...; nullopt: there is no such register.
std::optional<uint64_t> register_value(const vmm::CpuRegisters& registers, std::string_view name);

// An error is a message for the user.
using RegisterReader =
    std::function<std::expected<uint64_t, std::string>(std::string_view register_name)>;

// Parses the expression at the start of `text` and removes it. A space ends the expression, unless
// it is inside parentheses.
std::expected<int64_t, std::string> parse_expression(std::string_view& text,
                                                     const RegisterReader& read_register);

}  // namespace wick::control
