#include "net/slirp.h"

#include "base/log.h"
#include "base/shared_library.h"

namespace wick::net {

namespace {

constexpr const char* kLibrary = "libslirp.so.0";

// Rate-limits libslirp's log messages, because a guest can provoke many of them. GLib would
// write them to stderr.
void log_message(const char*, int, const char* message, void*) {
  static RateLimit limit;
  limit.warn("libslirp: {}", message);
}

// Calls GLib's g_log_set_handler() without its header, to avoid a dependency. The two lowest
// bits are flags (fatal, recursion), not levels.
void take_over_log(void* library) {
  constexpr int kAllLevels = ~3;
  unsigned (*set_handler)(const char*, int, void (*)(const char*, int, const char*, void*), void*) =
      nullptr;
  if (find_symbol(library, "g_log_set_handler", set_handler))
    set_handler("Slirp", kAllLevels, log_message, nullptr);
}

Result<void> load(SlirpLibrary& slirp) REQUIRES(slirp.mutex) {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return with_hint(fail("user network: {}", ::dlerror()), "install the package libslirp0");
  if (!find_symbol(library, "slirp_new", slirp.create) ||
      !find_symbol(library, "slirp_cleanup", slirp.destroy) ||
      !find_symbol(library, "slirp_pollfds_fill", slirp.fill) ||
      !find_symbol(library, "slirp_pollfds_poll", slirp.poll) ||
      !find_symbol(library, "slirp_input", slirp.input) ||
      !find_symbol(library, "slirp_add_hostfwd", slirp.forward) ||
      !find_symbol(library, "slirp_remove_hostfwd", slirp.remove_forward) ||
      !find_symbol(library, "slirp_connection_info", slirp.connections)) {
    (void)::dlclose(library);
    return with_hint(fail("user network: {} lacks a function", kLibrary),
                     "install libslirp0, 4.1 or later");
  }
  take_over_log(library);
  return {};
}

}  // namespace

Result<SlirpLibrary*> load_slirp() {
  static SlirpLibrary slirp;
  const MutexLock lock(slirp.mutex);
  if (slirp.create == nullptr) TRY(load(slirp));
  return &slirp;
}

}  // namespace wick::net
