// The guest's CPUID: all that KVM supports, with the topology of the machine in place of the
// host's (Intel SDM, CPUID; AMD APM 3, appendix E; Documentation/virt/kvm/x86/cpuid.rst).
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

namespace wick::vmm {

struct CpuTopology {
  uint32_t cpu = 0;           // the number of this vCPU, which is also its APIC ID
  uint32_t cpu_count = 1;     // all in one package, one thread per core
  bool tsc_deadline = false;  // KVM_CAP_TSC_DEADLINE_TIMER; KVM does not list it in CPUID
};

std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported,
                                          const CpuTopology& topology);

}  // namespace wick::vmm
