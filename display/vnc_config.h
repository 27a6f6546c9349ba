// The settings of a VNC server, parsed from the option that the user writes.
//
// Thread rule: pure functions.
// Specification: display numbers as RFC 6143, section 8, registers the port: display N is port
// 5900 + N. Web browsers traditionally get port 5800 + N.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/listener.h"
#include "base/result.h"

namespace wick::display {

struct VncConfig {
  StreamAddress address;      // TCP with port 0: the kernel chooses a port
  std::string password_file;  // empty: clients need no password
  // The port of the web page with the VNC client noVNC; 0: the kernel chooses a port. nullopt:
  // there is no web page, and the VNC port accepts no WebSockets.
  std::optional<uint16_t> web_port;
  std::string web_folder = "/usr/share/novnc";
};

// Parses "HOST:N|unix:PATH[,password-file=FILE][,web=on|off]". HOST may be empty (127.0.0.1) or an
// IPv6 address in brackets.
Result<VncConfig> parse_vnc(std::string_view text);

// Returns the first line of the password file. Fails if users other than the owner may access the
// file, or if the line is empty.
Result<std::string> read_vnc_password(const std::string& path);

}  // namespace wick::display
