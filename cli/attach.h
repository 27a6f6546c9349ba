// wick attach: joins the terminal to a machine's serial socket.
#pragma once

#include <unistd.h>

#include <string>

#include "base/result.h"

namespace wick::cli {

// Copies between standard input and output and the socket at `socket_path`
// until one end has had enough, and says on stderr which. Returns the exit
// status: 0, or 1 when the machine refused us because someone else is attached.
//
// On a terminal every key goes to the guest but Ctrl-], which leaves. Without
// one, standard input is passed on as it is; at its end attach still waits for
// answers and leaves when the guest has been silent for a second. An input that
// was empty from the start (/dev/null) means someone who only watches: attach
// then stays as long as the machine does.
//
// The socket carries the guest's bytes and nothing else, so there is no way to
// send a BREAK over it.
Result<int> attach(const std::string& socket_path, int in = STDIN_FILENO, int out = STDOUT_FILENO);

}  // namespace wick::cli
