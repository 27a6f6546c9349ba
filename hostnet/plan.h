// How a network is made and undone: one list of steps. From it comes all that
// `wick net up` and `down` do, and what --dry-run prints. A function of the network
// and of wick's other networks; nothing is looked at and nothing is done here.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "hostnet/state.h"

namespace wick::hostnet {

// Another program, without a shell.
struct RunCommand {
  std::vector<std::string> arguments;
  std::string input = {};
  bool may_fail = false;
};
// A sysctl.
struct WriteValue {
  std::string path;
  std::string value;
  bool may_lack = false;  // a kernel may have none
};
// The dnsmasq of that network.
struct StopDnsmasq {
  std::string network;
};
using Action = std::variant<RunCommand, WriteValue, StopDnsmasq>;

struct Step {
  enum class Kind : uint8_t {
    kFolder,
    kBridge,
    kSysctls,  // of the bridge
    kAddress,
    kTable,      // of nftables
    kChain,      // of iptables
    kRedirects,  // a sysctl that turning forwarding on and off changes
    kForwarding,
    kDnsmasq,
    kLock,  // of a TAP
    kTap,
    kPort,  // a TAP in the bridge
  };

  Kind kind = Kind::kFolder;
  std::string name;    // as HostNetwork::Made has it; empty: not kept there
  std::string object;  // what it is about: an interface, table, chain or path
  std::vector<Action> make;
  std::vector<Action> undo = {};       // empty: it goes with another, or other networks need it
  std::vector<std::string> look = {};  // of a table or chain: the command that finds it
  bool shared = false;                 // another network has made it, too
};

// In the order of making. `others` are wick's other networks with kForwardingStep made.
std::vector<Step> plan(const HostNetwork& network, const std::vector<HostNetwork>& others = {});

// As a person would type it; it ends with a newline.
std::string shell_line(const Action& action);

// The table of nftables, or the chain of iptables.
std::string table_name(const std::string& network);
// The same, for what is forwarded between interfaces that are not wick's. It is one for
// all networks, and no network's table_name().
constexpr const char* kForwardingGuard = "wick-forwarding";
// Its table and chains are others than those of iptables.
constexpr const char* kIp6tables = "ip6tables";
std::string dnsmasq_pid_path(const std::string& network);

// A locally administered address, for the bridge: the same on each `up`, so guests
// that stay see the same host.
std::string bridge_mac(const std::string& machine_id, const std::string& network);

}  // namespace wick::hostnet
