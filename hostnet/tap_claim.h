// Which TAP of the networks that `wick net up` made a network card takes.
//
// Thread rule: none; functions.
#pragma once

#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "hostnet/state.h"

namespace wick::hostnet {

// A TAP that nobody else uses, as long as `lock` is open.
struct ClaimedTap {
  std::string name;
  Fd lock;
};

// The first of the network's TAPs that is free, or the `wanted` one if it is; else
// nothing. A TAP with IFF_MULTI_QUEUE takes further openers as further queues, where one
// without it would say EBUSY: so each has a lock file, which only its user and root can
// open. Attach to it with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE.
Result<std::optional<ClaimedTap>> claim_tap(const HostNetwork& network,
                                            const std::string& wanted = {});

// What a card attaches to.
struct ChosenTap {
  std::string interface;  // empty: a new TAP
  std::string bridge;     // where the TAP goes; empty: nowhere, or it is there
  Fd lock;                // of a TAP that is a network's; to be held while it is in use
};

// On the bridge of a network, the one that the user names or the usual one, the TAP is one
// of those that wait there for this user, or a new one. A TAP that the user names is locked
// if it is a network's, as the kernel would give it to a second machine as well. Both may be
// empty, for what the user did not name.
Result<ChosenTap> choose_tap(const std::string& interface, const std::string& bridge);

}  // namespace wick::hostnet
