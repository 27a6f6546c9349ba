// Standard output and standard error. Results go to standard output: a command that cannot write
// its results has failed. Messages go to standard error and do not block wick for longer than
// kMessageTimeout: those that cannot be written are dropped.
//
// Thread rule: set_up_output() and finish_results() on the main thread, the rest
// on any.
#pragma once

#include <chrono>
#include <string_view>

#include "base/result.h"

namespace wick {

// Replaces stdout and stderr by streams that never report an error, so that callers need not check
// for errors, and fmt::print() does not throw. finish_results() returns the first error of stdout.
// set_up_output() may be called only once, before anything is printed.
void set_up_output();

// Flushes stdout and returns its first error since set_up_output().
Result<void> finish_results();

inline constexpr std::chrono::milliseconds kMessageTimeout{2000};

// Writes to standard error, and waits at most `timeout` in all for room in a full pipe or
// terminal.
Result<void> write_message(std::string_view text,
                           std::chrono::milliseconds timeout = kMessageTimeout);

// Writes the line "wick: MESSAGE", with control characters escaped (printable.h).
void report_error(std::string_view message);

// Makes spdlog write to `fd` without ever blocking. If `fd` is full, messages are dropped,
// and their number is logged before the next message. Control characters, newlines included,
// are escaped, because messages contain file names and text from images and guests.
void set_up_log(int fd);

}  // namespace wick
