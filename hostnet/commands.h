// wick net: a network for guests on this host. It consists of a bridge, NAT by nftables or
// iptables, DHCP and DNS by dnsmasq, and TAPs for a user.
//
// A list of steps tells how to make and undo a network (hostnet/plan.h). The network's state
// file records which steps were made (hostnet/state.h).
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "hostnet/executor.h"
#include "hostnet/state.h"

namespace wick::hostnet {

constexpr unsigned kDefaultTaps = 8;

// If an option is not given, an existing network keeps its value, and a new network gets the
// default.
struct NetUp {
  std::string name = kDefaultNetwork;
  std::optional<net::Ipv4Subnet> address;  // nullopt: the first free network
  std::optional<std::string> domain;
  std::optional<std::string> user;  // the owner of the TAPs
  std::optional<unsigned> taps;
  bool no_nat = false;
  bool no_dhcp = false;
  bool dry_run = false;
  unsigned verbosity = 0;  // 1: report steps that were not necessary; 2: each command
};

struct NetDown {
  std::string name = kDefaultNetwork;
  bool dry_run = false;
  unsigned verbosity = 0;  // as in NetUp
};

struct NetStatus {
  std::optional<std::string> name;  // nullopt: all networks that are up
  bool json = false;
};

struct NetHosts {
  std::optional<std::string> name;  // nullopt: all networks that are up
};

using NetCommand = std::variant<NetUp, NetDown, NetStatus, NetHosts>;

// Execute a command and return its exit status. NetStatus of a network that is not up returns 1.
Result<int> execute(const NetUp& command);
Result<int> execute(const NetDown& command);
Result<int> execute(const NetStatus& command);
Result<int> execute(const NetHosts& command);

// Sets the log level that belongs to NetUp::verbosity.
void set_verbosity(unsigned verbosity);

// Do what execute() does, but with an executor; for tests.
Result<int> net_up(const NetUp& wanted, Executor& executor);
Result<int> net_down(const NetDown& wanted, Executor& executor);

}  // namespace wick::hostnet
