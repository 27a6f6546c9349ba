// Addresses of Unix stream sockets, for who listens and for who connects.
#pragma once

#include <sys/un.h>

#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace wick::console {

// How the line begins that a client gets when another one is there.
inline constexpr std::string_view kRefusal = "wick: refused: ";

// Refuses a path that a socket's address has no room for.
Result<sockaddr_un> unix_address(const std::string& path);

// Listens at `path`, without ever blocking; for the user alone (mode 0600). A
// socket that nobody listens at any more is replaced; everything else that is
// there is an error.
Result<Fd> listen_unix(const std::string& path);

Result<Fd> connect_unix(const std::string& path);

}  // namespace wick::console
