// The back end `user`: a network inside wick, in which the guest reaches the
// outside through ordinary sockets, so that nobody needs any rights. libslirp is
// the router of that network, as in QEMU with -netdev user:
//
//   10.0.2.0/24   the host at 10.0.2.2, a name server at 10.0.2.3, the guest's
//                 address from 10.0.2.15 on by DHCP
//   fec0::/64     the host at fec0::2, a name server at fec0::3, addresses by
//                 router advertisements
//
// Connections to the host's address reach the host's loopback.
//
// What libslirp takes memory or descriptors for is bounded (net/user_filter.h), and
// so is what waits for the guest: when that is half full no socket is read.
//
// Thread rule: as net::Backend.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/backend.h"

namespace wick::net {

// A port of the host that leads to one of the guest.
struct HostForward {
  bool udp = false;
  std::string host_address = "127.0.0.1";  // IPv4, as is the guest's
  uint16_t host_port = 0;
  std::string guest_address = "10.0.2.15";  // what DHCP gives the first guest
  uint16_t guest_port = 0;

  std::string text() const;  // "tcp:127.0.0.1:2222-10.0.2.15:22"
  friend bool operator==(const HostForward&, const HostForward&) = default;
};

struct UserNetwork {
  std::string name;            // in logs
  std::string host_name = {};  // that DHCP tells the guest; its first 32 bytes
  std::vector<HostForward> forwards = {};
  // The guest reaches nothing but DHCP and the host's address, and is reached
  // through the forwards.
  bool restricted = false;
};

// Forwards listen from now on.
Result<std::unique_ptr<Backend>> open_user(const UserNetwork& config);

}  // namespace wick::net
