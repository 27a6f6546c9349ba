#include "share/credentials.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace wick::share {

namespace {

thread_local bool owns_umask = false;

using CapabilityData = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

constexpr uint32_t capability_bit(int capability) { return 1u << capability; }

bool load(CapabilityData& data) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capget, &header, data.data()) == 0;
}

bool store(const CapabilityData& data) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capset, &header, data.data()) == 0;
}

// Adds or removes an effective capability of the thread. Returns whether the thread's capabilities
// have changed.
bool set_effective(int capability, bool wanted) {
  CapabilityData data{};
  if (!load(data)) return false;
  const uint32_t bit = capability_bit(capability);
  if (((data[0].effective & bit) != 0) == wanted) return false;
  if (wanted && (data[0].permitted & bit) == 0) return false;
  data[0].effective ^= bit;
  return store(data);
}

// setfsuid(2) and setfsgid(2) report no errors: a call that fails changes nothing.
bool set_fsuid(uint32_t uid) {
  ::setfsuid(uid);
  return static_cast<uint32_t>(::setfsuid(UINT32_MAX)) == uid;
}
bool set_fsgid(uint32_t gid) {
  ::setfsgid(gid);
  return static_cast<uint32_t>(::setfsgid(UINT32_MAX)) == gid;
}

}  // namespace

bool may_assume_users() { return ::geteuid() == 0; }

Outcome<AssumedCaller> AssumedCaller::enter(const Caller& caller) {
  if (caller.uid == ::geteuid() && caller.gid == ::getegid()) return AssumedCaller(false);
  // -1 asks setfsuid(2) for the present ID, so it cannot be a user's or a group's ID.
  if (caller.uid == UINT32_MAX || caller.gid == UINT32_MAX) return refuse(EINVAL);
  AssumedCaller assumed(true);  // on an error, its destructor calls leave()
  if (!set_fsgid(caller.gid) || !set_fsuid(caller.uid)) return refuse(EPERM);
  // setfsuid(2) has removed all capabilities that concern files.
  if (caller.uid != 0) set_effective(CAP_DAC_OVERRIDE, true);
  return assumed;
}

// Cannot fail, because the kernel always allows the effective IDs. With user 0, it also gives the
// capabilities back.
void AssumedCaller::leave() {
  if (!active_) return;
  set_fsuid(::geteuid());
  set_fsgid(::getegid());
  active_ = false;
}

void take_own_umask() {
  if (::unshare(CLONE_FS) != 0) return;
  ::umask(0);
  owns_umask = true;
}

bool has_own_umask() { return owns_umask; }

ThreadUmask::ThreadUmask(uint32_t mask) {
  if (owns_umask && mask != 0) before_ = ::umask(mask);
}

ThreadUmask::~ThreadUmask() {
  if (before_) ::umask(*before_);
}

WithoutFsetid::WithoutFsetid(bool wanted) {
  if (wanted) taken_ = set_effective(CAP_FSETID, false);
}

WithoutFsetid::~WithoutFsetid() {
  if (taken_) set_effective(CAP_FSETID, true);
}

}  // namespace wick::share
