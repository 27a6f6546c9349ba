// The TAP back end (Linux Documentation/networking/tuntap.rst). Packets have virtio-net headers
// (IFF_VNET_HDR), so offloads work in both directions.
//
// The link is up while the host's interface is up. If the interface is deleted, the link stays
// down for ever.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/backend.h"

namespace wick::net {

struct TapConfig {
  // An existing interface, or the name of a new one; empty: the kernel chooses the name.
  std::string interface = {};
  std::string bridge = {};  // the bridge to add the interface to; empty: none
  uint16_t queues = 1;
  std::optional<uint16_t> mtu = {};  // in bytes; nullopt: unchanged
};

// Opens a TAP. An interface that is created by this call is removed with the back end. Creating an
// interface and adding it to a bridge needs CAP_NET_ADMIN; to use an existing interface, the caller
// must own it.
Result<std::unique_ptr<Backend>> open_tap(const TapConfig& config);

}  // namespace wick::net
