// The time at which a process started (proc_pid_stat(5), field 22). Together with the PID it
// identifies the process, even after the PID has been reused.
//
// Thread rule: any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace wick::control {

// Returns the time in clock ticks since the boot; nullopt if there is no such process.
std::optional<uint64_t> start_ticks(pid_t process);

// Parses the time from the text of /proc/PID/stat. Its second field, the name of the program, is in
// parentheses and may have any characters.
std::optional<uint64_t> parse_start_ticks(std::string_view stat);

}  // namespace wick::control
