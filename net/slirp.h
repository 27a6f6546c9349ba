// libslirp, loaded when the first user network opens: the runs without one pay
// nothing for it and do not need it installed.
//
// Thread rule: load_slirp() from any thread. The library keeps state that all of
// its instances share (its clock, what it knows of the name server), so every call
// of its functions holds `mutex`; its callbacks come inside such calls.
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

// Stays for the life of the process.
Result<SlirpLibrary*> load_slirp();

}  // namespace wick::net
