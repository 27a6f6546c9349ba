// What the host's network looks like now: interfaces and routes as `ip` tells them,
// and the few things that wick net looks for besides.
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
  std::string kind;  // "bridge", "tun" (TAPs too), "veth"; empty: hardware
  bool up = false;
  std::string master;     // the bridge it is in
  std::string tap_owner;  // as `ip` says it: a name or a number
  std::vector<net::Ipv4Subnet> addresses;
};

// A network that the host knows a way to.
struct HostRoute {
  net::Ipv4Subnet destination;
  std::string interface;
};

struct HostView {
  std::vector<HostLink> links;
  std::vector<HostRoute> routes;  // but those to everywhere, which hide no network
  bool forwarding = false;        // net.ipv4.ip_forward

  const HostLink* find(std::string_view name) const;
};

// From `ip -j -d addr show` and `ip -j -4 route show table all`.
Result<std::vector<HostLink>> parse_links(std::string_view json);
Result<std::vector<HostRoute>> parse_routes(std::string_view json);

Result<HostView> look_at_host();

constexpr const char* kForwardingPath = "/proc/sys/net/ipv4/ip_forward";
// The kernel sets it to 0 when ip_forward becomes 1, and to 1 when that becomes 0.
constexpr const char* kRedirectsPath = "/proc/sys/net/ipv4/conf/all/accept_redirects";

// What is asked of processes here is what the kernel keeps of them. Their arguments are in
// their own memory: a process can make whoever reads them wait for ever.

// The network's dnsmasq in this network namespace, or 0: the one that has its leases open.
// Who may not look at that is told what is in the PID file.
pid_t find_dnsmasq(const std::string& network);

// The TAPs on the network's bridge: those that it made, there or not, and then others.
std::vector<std::string> taps_of(const HostNetwork& network, const HostView& host);

// A process that has a TAP open.
struct TapUser {
  std::string tap;
  pid_t pid = 0;
  std::string program;
  std::string machine;  // of wick run: its --name, or wick-PID
};

// Tells tap_users() the machine's name, for as long as it is open.
Fd publish_machine_name(const std::string& name);
// As far as the caller may look: root sees all.
std::vector<TapUser> tap_users();

}  // namespace wick::hostnet
