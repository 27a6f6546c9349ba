// The guest's CPUID: everything that KVM supports, but with the topology of the virtual machine in
// place of the host's (Intel SDM, CPUID; AMD APM 3, appendix E;
// Documentation/virt/kvm/x86/cpuid.rst).
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

namespace wick::vmm {

struct CpuTopology {
  uint32_t cpu = 0;           // the number of this vCPU, which is also its APIC ID
  uint32_t cpu_count = 1;     // the vCPUs are the cores of one package, with one thread each
  bool tsc_deadline = false;  // KVM_CAP_TSC_DEADLINE_TIMER; KVM does not list it in CPUID
};

// Returns the entries for one vCPU. `supported` is the answer of KVM_GET_SUPPORTED_CPUID.
std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported,
                                          const CpuTopology& topology);

}  // namespace wick::vmm
