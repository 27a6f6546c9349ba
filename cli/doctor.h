// wick doctor: checks whether this host can run guests, and reports what is missing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hostnet/state.h"
#include "vmm/kvm.h"

namespace wick::cli {

// The state of one network of `wick net`: the default network or, if that is not up, the first
// network that is up.
struct NetFacts {
  std::string error;  // why the network's state is unknown; empty: it is known
  std::optional<hostnet::HostNetwork> network;
  bool bridge_exists = false;
  std::string user;  // the user who runs wick doctor
  bool root = false;
};

// The properties of a host that matter to wick. The fields `…_error` are errno values; 0 means that
// the feature works.
struct HostFacts {
  vmm::KvmFacts kvm;
  bool has_virtualization = false;  // the CPU has the flag vmx or svm
  int tun_error = 0;
  int vhost_net_error = 0;
  NetFacts net;
  int io_uring_error = 0;
  std::string huge_pages;  // the chosen one of "always", "madvise" and "never"; empty: unknown
};

struct Finding {
  enum class Level { kOk, kWarn, kFail };

  Level level = Level::kOk;
  std::string text;  // includes the fix, if there is one
};

// Returns the findings. A finding at level kFail means that wick run cannot work.
std::vector<Finding> diagnose(const HostFacts& facts);

// Examines this host and prints the findings; returns the exit status.
int doctor();

}  // namespace wick::cli
