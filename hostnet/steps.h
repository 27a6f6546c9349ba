// Making and undoing steps of hostnet/plan.h, with a state file that is true before
// and after each: whatever ends wick in between, `wick net down` finds what was made.
//
// Thread rule: one `wick net up` or `down` at a time, see lock_networks().
#pragma once

#include "base/fd.h"
#include "hostnet/host_view.h"
#include "hostnet/performer.h"
#include "hostnet/plan.h"

namespace wick::hostnet {

enum class Presence { kAbsent, kOurs, kForeign };

// Of what a step makes. An interface is ours by its index; where wick ended before it
// could note that, by the bridge's MAC address or the TAP's owner.
Result<Presence> presence(const HostView& host, const HostNetwork& network, const Step& step);

// Why `up` refuses what is kForeign.
Error foreign(const Step& step);

// Notes it before and, with its index, after.
Result<void> make(const Step& step, HostNetwork& network, Performer& performer);

// Of an interface that is ours: where an `up` ended before it could do so itself.
void note_index(const HostView& host, const Step& step, HostNetwork& network);

// An entry of `network.made`, new or old.
HostNetwork::Made& entry_of(HostNetwork& network, const std::string& what);

// Undoes all that is noted, the last first, then removes the network's folder. Goes on
// where something cannot be undone, and keeps that for another try.
Result<void> undo_all(HostNetwork network, Performer& performer);

// Wick's other networks that need the host to forward.
std::vector<HostNetwork> others_that_forward(const std::string& name);

Result<void> require_root(const char* command, const std::string& name);

// Held by one process, for all networks: they choose addresses and share a sysctl.
Result<Fd> lock_networks();

}  // namespace wick::hostnet
