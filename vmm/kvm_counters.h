// Reads KVM's own statistics of a machine or a vCPU. KVM provides them as a file with a header,
// descriptors with names, and values (api.rst, 4.133).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/run_stats.h"

namespace wick::vmm {

Result<std::vector<KvmCounter>> parse_kvm_counters(std::span<const std::byte> file);

// Returns the statistics of the machine or vCPU `fd`; empty on kernels before 5.14.
std::vector<KvmCounter> read_kvm_counters(int fd);

}  // namespace wick::vmm
