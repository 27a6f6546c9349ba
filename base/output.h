// What wick says, and where. Results go to standard output and must arrive: a
// command whose results could not be written has failed. Messages go to standard
// error and hold nothing up: what cannot be written there is dropped.
//
// Thread rule: set_up_output() and finish_results() on the main thread, the rest
// on any.
#pragma once

#include <chrono>
#include <string_view>

#include "base/result.h"

namespace wick {

// Replaces stdout and stderr by streams that never fail, so that nothing which
// prints has to check, and fmt::print() does not throw. Errors of stdout are kept
// for finish_results(). At most once, before anything is printed.
void set_up_output();

// Writes what is still buffered for stdout. Returns the first error since
// set_up_output().
Result<void> finish_results();

inline constexpr std::chrono::milliseconds kPatience{2000};

// Writes to standard error, and waits at most so long for a reader.
Result<void> say(std::string_view text, std::chrono::milliseconds patience = kPatience);

// Says "wick: MESSAGE" on a line, with nothing in it that a terminal obeys.
void say_error(std::string_view message);

// Makes spdlog write to `fd` without ever waiting for it. A message that finds
// no room is dropped, and the next one that gets through is preceded by how many
// were. Nothing in a message reaches a terminal as a control character, newlines
// included: messages contain file names, and text from images and guests.
void set_up_log(int fd);

}  // namespace wick
