// The plan of a network: the list of steps that create it and undo it. `wick net up` and `down`
// execute it, and --dry-run prints it. The plan is a pure function of the network and of wick's
// other networks.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "hostnet/state.h"

namespace wick::hostnet {

// Runs a program without a shell.
struct RunCommand {
  std::vector<std::string> arguments;
  std::string input = {};
  bool may_fail = false;
};
// Writes a sysctl.
struct WriteValue {
  std::string path;
  std::string value;
  bool may_be_missing = false;  // true: some kernels do not have this sysctl
};
// Stops the network's dnsmasq.
struct StopDnsmasq {
  std::string network;
};
using Action = std::variant<RunCommand, WriteValue, StopDnsmasq>;

struct Step {
  enum class Kind : uint8_t {
    kFolder,
    kBridge,
    kSysctls,  // the sysctls of the bridge
    kAddress,
    kTable,      // nftables
    kChain,      // iptables
    kRedirects,  // accept_redirects, which the kernel changes together with ip_forward
    kForwarding,
    kDnsmasq,
    kLock,  // the lock file of a TAP
    kTap,
    kPort,  // adds a TAP to the bridge
  };

  Kind kind = Kind::kFolder;
  std::string name;    // the value of HostNetwork::Made::what; empty: not recorded
  std::string object;  // the interface, table, chain or path that the step makes
  std::vector<Action> make;
  // Empty: undoing another step also undoes this step, or the object is still in use.
  std::vector<Action> undo = {};
  std::vector<std::string> query = {};  // the command that shows whether a table or chain exists
  bool shared = false;                  // true: another network made the object, too
};

// Returns the steps in the order in which they are made. `others` are wick's other networks whose
// kForwardingStep was made.
std::vector<Step> plan(const HostNetwork& network, const std::vector<HostNetwork>& others = {});

// Returns the action as shell input that ends with a newline.
std::string shell_line(const Action& action);

// Returns the name of the network's table (nftables) or chain (iptables).
std::string table_name(const std::string& network);
// The table or chain that drops packets forwarded between interfaces that are not wick's. All
// networks share it; its name differs from every table_name().
constexpr const char* kForwardingGuard = "wick-forwarding";
// The program for IPv6, whose tables and chains are separate from those of iptables.
constexpr const char* kIp6tables = "ip6tables";
std::string dnsmasq_pid_path(const std::string& network);

// Returns a locally administered address for the bridge. The address is the same on each `up`, so
// guests that keep running find the host at the same address.
std::string bridge_mac(const std::string& machine_id, const std::string& network);

}  // namespace wick::hostnet
