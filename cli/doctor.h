// wick doctor: checks whether this host can run guests, and reports what is missing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hostnet/state.h"
#include "vmm/kvm.h"

namespace wick::cli {

// The network of wick net: the default one, or else the first that is up.
struct NetFacts {
  std::string error;  // why its state is unknown
  std::optional<hostnet::HostNetwork> network;
  bool bridge_exists = false;
  std::string user;  // the user who runs wick doctor
  bool root = false;
};

// The properties of a host. Errors are errno values; 0 means that it works.
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
  std::string text;  // with the fix, if there is one
};

// A failure means that wick run cannot work.
std::vector<Finding> diagnose(const HostFacts& facts);

// Examines this host and prints the findings; returns the exit status.
int doctor();

}  // namespace wick::cli
