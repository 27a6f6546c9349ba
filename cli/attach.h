// wick attach: connects the terminal to a machine's serial socket.
#pragma once

#include <unistd.h>

#include <string>

#include "base/result.h"

namespace wick::cli {

// Connects `in` and `out` to the socket at `socket_path`: copies bytes in both directions until one
// side ends, and reports on stderr which side ended. Returns the exit status: 0, or 1 if the
// machine refuses because another client is attached.
//
// On a terminal, all keys go to the guest except Ctrl-], which ends attach. Input that is not a
// terminal is passed on unchanged; after its end attach waits for output, and leaves when the guest
// has been silent for a second. With an empty input (/dev/null) attach only shows the output, and
// stays until the machine ends.
//
// The socket carries only the guest's bytes, so a BREAK cannot be sent over it.
Result<int> attach(const std::string& socket_path, int in = STDIN_FILENO, int out = STDOUT_FILENO);

}  // namespace wick::cli
