// A TAP device as a back end: the kernel's network interface whose other end is
// this process (Linux Documentation/networking/tuntap.rst). Packets carry
// virtio-net headers (IFF_VNET_HDR), so offloads go through both ways.
//
// The link is up while the host has the interface up; one that somebody deletes is
// a cable pulled out for good.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/backend.h"

namespace wick::net {

struct TapConfig {
  // One that exists, or the name of the one to make; empty: the kernel finds a name.
  std::string interface = {};
  std::string bridge = {};  // that it becomes a port of; empty: none
  uint16_t queues = 1;
  std::optional<uint16_t> mtu = {};  // bytes; none: as it is
};

// What is made here goes when the back end does. Making one, and the bridge, need
// CAP_NET_ADMIN; using one that is there needs to be its owner.
Result<std::unique_ptr<Backend>> open_tap(const TapConfig& config);

}  // namespace wick::net
