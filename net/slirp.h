// Loads libslirp when the first user network opens, so that runs without one do not pay for it
// and do not need it installed.
//
// Thread rule: load_slirp() from any thread. All instances of libslirp share some state (the
// clock, the name server's address), so each call of its functions must hold `mutex`. Its
// callbacks come inside such calls.
#pragma once

#include <slirp/libslirp.h>

#include <mutex>

#include "base/result.h"

namespace wick::net {

struct SlirpLibrary {
  decltype(&::slirp_new) create = nullptr;
  decltype(&::slirp_cleanup) destroy = nullptr;
  decltype(&::slirp_pollfds_fill) fill = nullptr;
  decltype(&::slirp_pollfds_poll) poll = nullptr;
  decltype(&::slirp_input) input = nullptr;
  decltype(&::slirp_add_hostfwd) forward = nullptr;
  std::mutex mutex;
};

// The library stays loaded for the life of the process.
Result<SlirpLibrary*> load_slirp();

}  // namespace wick::net
