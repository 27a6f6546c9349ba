// Opens Unix stream sockets, for listening and for connecting.
#pragma once

#include <sys/un.h>

#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace wick::console {

// The start of the line that a client gets when another client is connected.
inline constexpr std::string_view kRefusal = "wick: refused: ";

// Fails if `path` is too long for a socket address.
Result<sockaddr_un> unix_address(const std::string& path);

// Makes a non-blocking socket that listens at `path`, with mode 0600. A stale socket
// at `path` is replaced; any other existing file is an error.
Result<Fd> listen_unix(const std::string& path);

Result<Fd> connect_unix(const std::string& path);

}  // namespace wick::console
