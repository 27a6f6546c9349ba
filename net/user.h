// The back end `user`: a network inside wick. Its router is libslirp, which forwards the guest's
// connections through ordinary host sockets, so that wick needs no privilege. The network is that
// of QEMU's -netdev user:
//
//   10.0.2.0/24   the host at 10.0.2.2, a name server at 10.0.2.3, the guest's
//                 address from 10.0.2.15 on by DHCP
//   fec0::/64     the host at fec0::2, a name server at fec0::3, addresses by
//                 router advertisements
//
// Connections to the host's address reach the host's loopback.
//
// The memory and the descriptors that a guest can make libslirp use are bounded
// (net/user_filter.h). The queue of frames to the guest is bounded, too: while it is more than half
// full, no socket is read.
//
// Thread rule: that of net::Backend.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/backend.h"
#include "net/host_forward.h"

namespace wick::net {

struct UserNetwork {
  std::string name;            // the card's name in logs
  std::string host_name = {};  // the guest's name in DHCP; truncated to 32 bytes
  std::vector<HostForward> forwards = {};
  // true: the guest can reach only DHCP and the host's address; forwards still work.
  bool restricted = false;
};

// Opens a user network. Its forwards already listen when the function returns.
Result<std::unique_ptr<Backend>> open_user(const UserNetwork& config);

}  // namespace wick::net
