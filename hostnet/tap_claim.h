// Chooses the TAP for a network card among those that `wick net up` made.
//
// Thread rule: any thread.
#pragma once

#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "hostnet/state.h"

namespace wick::hostnet {

// A TAP that no other machine can claim as long as `lock` is open.
struct ClaimedTap {
  std::string name;
  Fd lock;
};

// Claims the network's first free TAP, or `wanted` if it is given; nullopt if none is free. A
// second opener of a TAP with IFF_MULTI_QUEUE would get another queue, not EBUSY. So each TAP has a
// lock file, which only its owner and root can open. The caller must open the TAP with IFF_TAP |
// IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE.
Result<std::optional<ClaimedTap>> claim_tap(const HostNetwork& network,
                                            const std::string& wanted = {});

struct ChosenTap {
  std::string interface;  // empty: create a new TAP
  std::string bridge;     // the bridge to add the TAP to; empty: none, or already a port
  // The lock of a network's TAP, which must stay open while the TAP is in use.
  Fd lock;
};

// Chooses a TAP; both arguments may be empty. An `interface` that belongs to a network is locked,
// because the kernel would also give it to a second machine. Without an `interface`, the network
// `bridge` (default: wick0) provides one of its free TAPs. Root, or a network without TAPs, gets a
// new TAP on the bridge instead.
Result<ChosenTap> choose_tap(const std::string& interface, const std::string& bridge);

}  // namespace wick::hostnet
