#include "vmm/cpuid.h"

#include <algorithm>
#include <bit>

namespace wick::vmm {

namespace {

constexpr uint32_t kApicIdShift = 24;
constexpr uint32_t kLogicalCountShift = 16;
constexpr uint32_t kHtt = 1u << 28;          // leaf 1, EDX
constexpr uint32_t kTscDeadline = 1u << 24;  // leaf 1, ECX
constexpr uint32_t kHypervisor = 1u << 31;   // leaf 1, ECX
constexpr uint32_t kLevelThread = 1;         // leaf 0xb, ECX[15:8]
constexpr uint32_t kLevelCore = 2;

// Fills in one subleaf of leaf 0xb or 0x1f. The x2APIC ID shifted right by `shift` is the ID of
// the unit at the next higher level.
void set_topology_level(kvm_cpuid_entry2& entry, uint32_t shift, uint32_t cpus, uint32_t type,
                        uint32_t cpu) {
  entry.eax = shift;
  entry.ebx = cpus;
  entry.ecx = entry.index | type << 8;
  entry.edx = cpu;
}

// Returns how many bits of an APIC ID the vCPU numbers need.
uint32_t id_bits(const CpuTopology& topology) {
  return static_cast<uint32_t>(std::bit_width(topology.cpu_count - 1));
}

// Replaces the host's topology in an entry by that of the guest's vCPUs.
void adapt(kvm_cpuid_entry2& entry, const CpuTopology& topology) {
  const uint32_t count = topology.cpu_count;
  switch (entry.function) {
    case 1:
      entry.ebx = (entry.ebx & 0xffff) | topology.cpu << kApicIdShift | count << kLogicalCountShift;
      entry.ecx |= kHypervisor;
      if (topology.tsc_deadline) entry.ecx |= kTscDeadline;
      entry.edx = count > 1 ? entry.edx | kHtt : entry.edx & ~kHtt;
      break;
    case 4: {
      // Intel's cache leaves. EAX[25:14]: sharers - 1; EAX[31:26]: cores - 1.
      const uint32_t level = entry.eax >> 5 & 7;
      const uint32_t sharers = level >= 3 ? count : 1;
      if ((entry.eax & 0x1f) != 0)
        entry.eax = (entry.eax & 0x3fff) | (sharers - 1) << 14 | std::min(count - 1, 0x3fu) << 26;
      break;
    }
    case 0x80000008:
      // ECX[7:0]: threads - 1; ECX[15:12]: the number of APIC ID bits that number the threads.
      entry.ecx = (entry.ecx & ~0xf0ffu) | (count - 1) | id_bits(topology) << 12;
      break;
    case 0x8000001d: {
      const uint32_t level = entry.eax >> 5 & 7;
      if ((entry.eax & 0x1f) != 0)
        entry.eax = (entry.eax & 0x3fff) | ((level >= 3 ? count : 1) - 1) << 14;
      break;
    }
    case 0x8000001e:
      entry.eax = topology.cpu;
      entry.ebx = topology.cpu;  // EBX[7:0]: the core ID; EBX[15:8] = 0: one thread per core
      entry.ecx = 0;             // one node per package
      break;
    default:
      break;
  }
}

// Adds the topology leaves 0xb and 0x1f. The caller has left out the host's.
void add_topology_leaves(std::vector<kvm_cpuid_entry2>& result, const CpuTopology& topology) {
  const uint32_t count = topology.cpu_count;
  for (const uint32_t leaf : {0xbu, 0x1fu}) {
    // EAX of leaf 0 is the highest supported leaf.
    if (result.empty() || result.front().function != 0 || leaf > result.front().eax) continue;
    for (uint32_t index = 0; index < 3; ++index) {
      kvm_cpuid_entry2 entry{};
      entry.function = leaf;
      entry.index = index;
      entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
      if (index == 0) set_topology_level(entry, 0, 1, kLevelThread, topology.cpu);
      if (index == 1) set_topology_level(entry, id_bits(topology), count, kLevelCore, topology.cpu);
      if (index == 2) set_topology_level(entry, 0, 0, 0, topology.cpu);
      result.push_back(entry);
    }
  }
}

}  // namespace

std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported,
                                          const CpuTopology& topology) {
  std::vector<kvm_cpuid_entry2> result;
  for (kvm_cpuid_entry2 entry : supported) {
    if (entry.function == 0xb || entry.function == 0x1f) continue;
    adapt(entry, topology);
    result.push_back(entry);
  }
  add_topology_leaves(result, topology);
  return result;
}

}  // namespace wick::vmm
