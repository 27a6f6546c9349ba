// wick doctor: can this host run guests, and what is missing?
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hostnet/state.h"
#include "vmm/kvm.h"

namespace wick::cli {

// The network of wick net: the default one, else the first that is up.
struct NetFacts {
  std::string error;  // why it cannot be told
  std::optional<hostnet::HostNetwork> network;
  bool bridge_there = false;
  std::string user;  // who asks
  bool root = false;
};

// What there is to know of a host. Errors are errno values, 0 where it works.
struct HostFacts {
  KvmFacts kvm;
  bool has_virtualization = false;  // the CPU says vmx or svm
  int tun_error = 0;
  int vhost_net_error = 0;
  NetFacts net;
  int io_uring_error = 0;
  std::string huge_pages;  // the chosen one of "always", "madvise" and "never"; empty: unknown
};

struct Finding {
  enum class Level { kOk, kWarn, kFail };

  Level level = Level::kOk;
  std::string text;  // with the mend, where there is one
};

// A failure means that wick run cannot work.
std::vector<Finding> diagnose(const HostFacts& facts);

// Looks at this host and prints what it finds; returns the exit status.
int doctor();

}  // namespace wick::cli
