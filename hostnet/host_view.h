// The current state of the host's network: interfaces and routes as listed by `ip`, and the
// processes that use them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "hostnet/state.h"

namespace wick::hostnet {

struct HostLink {
  std::string name;
  uint32_t index = 0;
  std::string mac;
  std::string kind;  // "bridge", "tun" (also for TAPs), "veth"; empty: hardware
  bool up = false;
  std::string master;     // the bridge of which it is a port; empty: none
  std::string tap_owner;  // a user name or a number, as `ip` prints it
  std::vector<net::Ipv4Subnet> addresses;
};

struct HostRoute {
  net::Ipv4Subnet destination;
  std::string interface;
};

struct HostView {
  std::vector<HostLink> links;
  std::vector<HostRoute> routes;  // without default routes, which conflict with no network
  bool forwarding = false;        // net.ipv4.ip_forward

  const HostLink* find(std::string_view name) const;
};

// Parse the output of `ip -j -d addr show` and `ip -j -4 route show table all`.
Result<std::vector<HostLink>> parse_links(std::string_view json);
Result<std::vector<HostRoute>> parse_routes(std::string_view json);

Result<HostView> look_at_host();

constexpr const char* kForwardingPath = "/proc/sys/net/ipv4/ip_forward";
// The kernel sets accept_redirects to 0 when ip_forward becomes 1, and to 1 when ip_forward
// becomes 0.
constexpr const char* kRedirectsPath = "/proc/sys/net/ipv4/conf/all/accept_redirects";

// The functions below read from /proc only what the kernel itself keeps about a process. They do
// not read command lines, which are in the process's memory: a process can make a reader of its
// memory wait for ever.

// Returns the PID of the network's dnsmasq in this network namespace, or 0: the process that has
// the leases file open. For a process whose open files the caller may not see, the PID file
// decides.
pid_t find_dnsmasq(const std::string& network);

// Returns first the network's own TAPs, even those that do not exist, and then other TAPs on its
// bridge.
std::vector<std::string> taps_of(const HostNetwork& network, const HostView& host);

// A process that has a TAP open.
struct TapUser {
  std::string tap;
  pid_t pid = 0;
  std::string program;
  std::string machine;  // for wick run: its --name, or wick-PID
};

// Publishes the machine's name for tap_users(), as long as the returned descriptor is open.
Fd publish_machine_name(const std::string& name);
// Returns the TAP users that the caller may see; root sees all.
std::vector<TapUser> tap_users();

}  // namespace wick::hostnet
