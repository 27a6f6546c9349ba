// What --stats tells of a run, as plain values: the run's exits to user space,
// and what KVM itself counted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wick {

// The exits of one kind: of one reason, and if that is io or mmio, of accesses
// in one direction to one register.
struct ExitRow {
  std::string reason;  // "io", "mmio", "intr", ...
  std::string device;  // empty: nobody answers there
  std::string reg;     // may be empty
  bool write = false;
  uint64_t count = 0;
  uint64_t user_ns = 0;  // in user space, from the exit to the next entry
};

// One of KVM's statistics; a histogram has several values.
struct KvmCounter {
  std::string name;
  std::vector<uint64_t> values;
};

struct RunStats {
  std::vector<ExitRow> exits;  // of all vCPUs, in no order
  uint64_t vcpu_ns = 0;        // what the vCPUs' threads took, in the guest, in KVM and here
  // Empty where the host's kernel is older than 5.14.
  std::vector<KvmCounter> kvm_vm;
  std::vector<std::vector<KvmCounter>> kvm_vcpus;
};

}  // namespace wick
