// The statistics of a run for --stats, as plain values: the exits to user space and KVM's own
// counters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wick::vmm {

// One row counts the exits that have the same reason and, for io and mmio, the same register and
// direction.
struct ExitRow {
  std::string reason;  // "io", "mmio", "intr", ...
  std::string device;  // empty: no device at this address
  std::string reg;     // the register's name; may be empty
  bool write = false;
  uint64_t count = 0;
  uint64_t user_ns = 0;  // time in user space, from the exit to the next KVM_RUN
};

// One of KVM's statistics; a histogram has several values.
struct KvmCounter {
  std::string name;
  std::vector<uint64_t> values;
};

struct RunStats {
  std::vector<ExitRow> exits;  // of all vCPUs, in any order
  uint64_t vcpu_ns = 0;        // run time of all vCPU threads: in the guest, in KVM and in wick
  // Empty if the host's kernel is older than 5.14.
  std::vector<KvmCounter> kvm_vm;
  std::vector<std::vector<KvmCounter>> kvm_vcpus;
};

}  // namespace wick::vmm
