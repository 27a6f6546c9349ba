// Credentials of the calling thread for the length of a scope. The kernel keeps them for each
// thread, so other threads are not affected.
#pragma once

#include <cstdint>
#include <optional>

#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

// True if the process may act as any user.
bool may_assume_users();

// Makes the thread create files as `caller`, with its CAP_DAC_OVERRIDE kept: the guest's kernel
// has checked the permissions already, and knows the caller's other groups.
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

// Gives the thread a umask of its own, of 0. Allowed to every user; if it fails all the same, the
// umask of the process is applied to what the thread creates.
void take_own_umask();

// Changes the umask of a thread that has its own.
class ThreadUmask {
 public:
  explicit ThreadUmask(uint32_t mask);
  ~ThreadUmask();
  ThreadUmask(const ThreadUmask&) = delete;
  ThreadUmask& operator=(const ThreadUmask&) = delete;

 private:
  std::optional<uint32_t> before_;
};

// Takes CAP_FSETID away from the thread, so that the kernel clears the set-user-ID and
// set-group-ID bits of a file that is written. Does nothing if the thread has not got it.
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
