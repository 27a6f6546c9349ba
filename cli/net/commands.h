// wick net: a network for guests on this host, made of what the host has: a bridge,
// NAT by nftables or iptables, DHCP and names by dnsmasq, TAPs for a user.
//
// What is made and how to undo it are one list of steps (hostnet/plan.h); what was
// made is in the network's state file (hostnet/state.h).
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "hostnet/performer.h"
#include "hostnet/state.h"

namespace wick::cli {

// What was not given keeps what an existing network has, or is the default.
struct NetUp {
  std::string name = hostnet::kDefaultNetwork;
  std::optional<net::Ipv4Subnet> address;  // else: the first that is free
  std::optional<std::string> domain;
  std::optional<std::string> user;  // whose the TAPs are
  std::optional<unsigned> taps;
  bool no_nat = false;
  bool no_dhcp = false;
  bool dry_run = false;
  unsigned verbosity = 0;  // 1: what there was nothing to do about; 2: each command
};

struct NetDown {
  std::string name = hostnet::kDefaultNetwork;
  bool dry_run = false;
  unsigned verbosity = 0;  // 1: what there was nothing to do about; 2: each command
};

struct NetStatus {
  std::optional<std::string> name;  // else: all that are up
  bool json = false;
};

struct NetHosts {
  std::optional<std::string> name;  // else: of all that are up
};

using NetCommand = std::variant<NetUp, NetDown, NetStatus, NetHosts>;

// Each returns its exit status; 1 is for errors, and for the status of a network
// that is not up.
Result<int> carry_out(const NetUp& command);
Result<int> carry_out(const NetDown& command);
Result<int> carry_out(const NetStatus& command);
Result<int> carry_out(const NetHosts& command);

// The same, by a performer that a test gives.
Result<int> net_up(const NetUp& wanted, hostnet::Performer& performer);
Result<int> net_down(const NetDown& wanted, hostnet::Performer& performer);

}  // namespace wick::cli
