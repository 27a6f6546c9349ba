// KVM's own statistics of a machine or of a vCPU: a file with a header,
// descriptors that carry names, and values (api.rst, 4.133).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/run_stats.h"

namespace wick {

Result<std::vector<KvmCounter>> parse_kvm_counters(std::span<const std::byte> file);

// Of the machine or the vCPU behind `fd`; none on kernels before 5.14.
std::vector<KvmCounter> read_kvm_counters(int fd);

}  // namespace wick
