// Loads libslirp when the first user network opens, so that a run without a user network does not
// need libslirp and does not spend time on it.
//
// Thread rule: load_slirp() from any thread. All instances of libslirp share some state (the clock,
// the name server's address), so the caller of any of its functions must hold `mutex`. libslirp
// calls its callbacks only inside such calls.
#pragma once

#include <slirp/libslirp.h>

#include "base/mutex.h"
#include "base/result.h"

namespace wick::net {

struct SlirpLibrary {
  Mutex mutex;
  decltype(&::slirp_new) create GUARDED_BY(mutex) = nullptr;
  decltype(&::slirp_cleanup) destroy GUARDED_BY(mutex) = nullptr;
  decltype(&::slirp_pollfds_fill) fill GUARDED_BY(mutex) = nullptr;
  decltype(&::slirp_pollfds_poll) poll GUARDED_BY(mutex) = nullptr;
  decltype(&::slirp_input) input GUARDED_BY(mutex) = nullptr;
  decltype(&::slirp_add_hostfwd) forward GUARDED_BY(mutex) = nullptr;
  decltype(&::slirp_remove_hostfwd) remove_forward GUARDED_BY(mutex) = nullptr;
  decltype(&::slirp_connection_info) connections GUARDED_BY(mutex) = nullptr;
};

// Loads the library at the first call; it stays loaded for the life of the process.
Result<SlirpLibrary*> load_slirp();

}  // namespace wick::net
