// The functions of a vCPU that a debugger needs.
#include <sys/ioctl.h>

#include <algorithm>

#include "vmm/vcpu.h"

namespace wick::vmm {

void Vcpu::stop_for_debugger() {
  constexpr uint32_t kBreakpointException = 3;
  const kvm_debug_exit_arch& debug = run_->debug.arch;
  DebugStop stop{.cpu = index_, .address = debug.pc, .dr6 = debug.dr6};
  if (debug.exception == kBreakpointException)
    stop.kind = DebugStop::Kind::kBreakpoint;
  else if ((debug.dr6 & 0xf) != 0)
    stop.kind = DebugStop::Kind::kHardware;
  else
    stop.kind = DebugStop::Kind::kSingleStep;
  {
    const MutexLock lock(mutex_);
    pause_ = true;
  }
  if (events_.debug_stop) events_.debug_stop(stop);
  wait_for_resume();
}

Result<void> Vcpu::set_debug(const Debug& debug) {
  kvm_guest_debug request{};
  if (debug.enabled) request.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
  if (debug.step) request.control |= KVM_GUESTDBG_SINGLESTEP;
  // KVM_GUESTDBG_BLOCKIRQ masks interrupts during a step. Without it (Linux before 5.15), a step
  // ends in the handler of an interrupt that is pending.
  const int flags = vm_.kvm().capability(KVM_CAP_SET_GUEST_DEBUG2);
  if (debug.step && (flags & KVM_GUESTDBG_BLOCKIRQ) != 0) request.control |= KVM_GUESTDBG_BLOCKIRQ;
  if (debug.pass_breakpoint) request.control |= KVM_GUESTDBG_INJECT_BP;
  if (debug.enabled && !debug.breakpoints.empty()) {
    request.control |= KVM_GUESTDBG_USE_HW_BP;
    // DR7 (Intel SDM 3, 18.2.4): the enable bits G0 to G3, and for each breakpoint four bits for
    // type and length. Of 0x600, bit 10 is always set, and bit 9 (GE) makes matches exact.
    uint64_t dr7 = 0x600;
    for (size_t i = 0; i < std::min<size_t>(debug.breakpoints.size(), 4); ++i) {
      const HardwareBreakpoint& wanted = debug.breakpoints[i];
      const uint64_t length = wanted.length_bytes == 8 ? 2 : wanted.length_bytes - 1u;
      request.arch.debugreg[i] = wanted.address;
      dr7 |= uint64_t{2} << (i * 2);
      dr7 |= (static_cast<uint64_t>(wanted.kind) | length << 2) << (16 + i * 4);
    }
    request.arch.debugreg[7] = dr7;
  }
  if (::ioctl(fd_.get(), KVM_SET_GUEST_DEBUG, &request) != 0)
    return fail_errno(errno, "kvm: KVM_SET_GUEST_DEBUG on vCPU {}", index_);
  return {};
}

std::optional<GuestAddress> Vcpu::translate(uint64_t linear) const {
  kvm_translation translation{};
  translation.linear_address = linear;
  if (::ioctl(fd_.get(), KVM_TRANSLATE, &translation) != 0 || translation.valid == 0)
    return std::nullopt;
  return GuestAddress{translation.physical_address};
}

}  // namespace wick::vmm
