// Changes credentials of the calling thread for the length of a scope. The kernel keeps them for
// each thread, so other threads are not affected.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

// Returns whether the process may act as any user.
bool may_assume_users();

// Makes the thread create files as `caller`. The thread keeps CAP_DAC_OVERRIDE, because the guest's
// kernel has checked the permissions already, and only that kernel knows the caller's other groups.
class AssumedCaller {
 public:
  static Outcome<AssumedCaller> enter(const Caller& caller);
  AssumedCaller(AssumedCaller&& other) noexcept : active_(other.active_) { other.active_ = false; }
  AssumedCaller& operator=(AssumedCaller&&) = delete;
  ~AssumedCaller() { leave(); }

 private:
  explicit AssumedCaller(bool active) : active_(active) {}
  void leave();
  bool active_;
};

// take_own_umask() sets the umask of the calling thread alone to 0. Every user may do so, but a
// seccomp filter may refuse it: then has_own_umask() is false, and the process's umask applies to
// what the thread creates.
void take_own_umask();
bool has_own_umask();

// Sets the thread's umask for the length of a scope. Does nothing without take_own_umask().
class ThreadUmask {
 public:
  explicit ThreadUmask(uint32_t mask);
  ~ThreadUmask();
  ThreadUmask(const ThreadUmask&) = delete;
  ThreadUmask& operator=(const ThreadUmask&) = delete;

 private:
  std::optional<mode_t> before_;
};

// If `wanted`, takes CAP_FSETID away from the thread, so that the kernel clears the set-user-ID and
// set-group-ID bits of a file that is written. Does nothing if the thread lacks CAP_FSETID.
class WithoutFsetid {
 public:
  explicit WithoutFsetid(bool wanted);
  ~WithoutFsetid();
  WithoutFsetid(const WithoutFsetid&) = delete;
  WithoutFsetid& operator=(const WithoutFsetid&) = delete;

 private:
  bool taken_ = false;
};

}  // namespace wick::share
