// When a process started (proc_pid_stat(5), field 22), which with its PID names it for good.
//
// Thread rule: none.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace wick::control {

// In clock ticks since the boot; nullopt if there is no such process.
std::optional<uint64_t> start_ticks(pid_t process);

// The same of the text of /proc/PID/stat. The name of a program, its second field, is in
// parentheses and may have any characters.
std::optional<uint64_t> parse_start_ticks(std::string_view stat);

}  // namespace wick::control
