// Expressions of the human monitor. They consist of integers (decimal, with 0x hexadecimal, with 0
// octal), characters ('c'), registers ($rip), the operators + - * / % & | ^ ~ and parentheses.
// Values have 64 bits, and arithmetic wraps. As in QEMU, the operators & | and ^ have the lowest
// precedence, the same for all three.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/inspector.h"

namespace wick::control {

// Returns the value of a register by its name, such as "rip", "eax" or "cr3"; nullopt: there is no
// such register.
std::optional<uint64_t> register_value(const vmm::CpuRegisters& registers, std::string_view name);

// Returns the value of a register; an error is a message for the user.
using RegisterReader =
    std::function<std::expected<uint64_t, std::string>(std::string_view register_name)>;

// Parses the expression at the start of `text` and removes it. A space ends the expression, unless
// it is inside parentheses.
std::expected<int64_t, std::string> parse_expression(std::string_view& text,
                                                     const RegisterReader& read_register);

}  // namespace wick::control
