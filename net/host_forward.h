// A port of the host that a user network forwards to a port of the guest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wick::net {

struct HostForward {
  bool udp = false;
  std::string host_address = "127.0.0.1";  // IPv4
  uint16_t host_port = 0;
  // IPv4; the default is the first address that DHCP gives.
  std::string guest_address = "10.0.2.15";
  uint16_t guest_port = 0;

  // Parses [tcp|udp]:[HOSTADDR]:PORT-[GUESTADDR]:PORT. The default protocol is TCP, the default
  // guest address is the first that DHCP gives. The default host address is 127.0.0.1. In QEMU the
  // default is all host addresses, but here other hosts get access only on request.
  static Result<HostForward> parse(std::string_view text);
  std::string text() const;  // "tcp:127.0.0.1:2222-10.0.2.15:22"
  friend bool operator==(const HostForward&, const HostForward&) = default;
};

}  // namespace wick::net
