// Makes and undoes steps of hostnet/plan.h. The state file is correct before and after each
// step: wherever wick is killed, `wick net down` finds everything that was made.
//
// Thread rule: one `wick net up` or `down` at a time (lock_networks()).
#pragma once

#include "base/fd.h"
#include "hostnet/executor.h"
#include "hostnet/host_view.h"
#include "hostnet/plan.h"

namespace wick::hostnet {

enum class Presence { kAbsent, kOurs, kForeign };

// Returns whether the step's object exists, and whether wick made it. An interface is identified by
// its index; if wick was killed before it recorded the index, by the bridge's MAC address or the
// TAP's owner.
Result<Presence> presence(const HostView& host, const HostNetwork& network, const Step& step);

// Returns the error of `wick net up` for a step whose object wick did not make (kForeign).
Error foreign(const Step& step);

// Records the step in the state file, executes it, and then records the interface's index.
Result<void> make(const Step& step, HostNetwork& network, Executor& executor);

// Records the index of an interface that an interrupted `up` has made.
void record_index(const HostView& host, const Step& step, HostNetwork& network);

// Returns the entry of `network.made` for `what`; adds it if it does not exist.
HostNetwork::Made& entry_of(HostNetwork& network, const std::string& what);

// Undoes all recorded steps in reverse order, then removes the network's folder. If a step fails,
// the other steps are still undone, and the failed step stays recorded for another attempt.
Result<void> undo_all(HostNetwork network, Executor& executor);

// Returns wick's networks, except `name`, for which the host forwards packets.
std::vector<HostNetwork> others_that_forward(const std::string& name);

Result<void> require_root(const char* command, const std::string& name);

// Locks all networks for one process, because they must choose different addresses and share a
// sysctl.
Result<Fd> lock_networks();

}  // namespace wick::hostnet
