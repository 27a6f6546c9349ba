// What CPUID tells the guest: what KVM supports, with the machine's own
// topology in place of the host's (Intel SDM, CPUID; AMD APM 3, appendix E;
// Documentation/virt/kvm/x86/cpuid.rst).
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

namespace wick {

struct CpuTopology {
  uint32_t cpu = 0;           // this vCPU: its number and its APIC ID
  uint32_t cpu_count = 1;     // all in one package, one thread per core
  bool tsc_deadline = false;  // KVM_CAP_TSC_DEADLINE_TIMER: not in the supported list
};

std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported,
                                          const CpuTopology& topology);

}  // namespace wick
