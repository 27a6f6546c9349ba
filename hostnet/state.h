// A network that `wick net up` made on this host, and its state file /run/wick/net/NAME/state.json.
// Only root writes the file, everyone may read it. It records everything that was made, so that it
// can be undone exactly. Root removes what the file lists, so wick trusts the file only in folders
// that nobody but root and the caller can write to.
//
// Thread rule: any thread; values and functions. set_networks_folder() must be called before the
// other functions.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/ipv4.h"

namespace wick::hostnet {

constexpr const char* kDefaultNetwork = "wick0";
constexpr unsigned kMaxTaps = 64;

struct HostNetwork {
  enum class Nat : uint8_t { kNone, kNftables, kIptables };

  // A part of the network that was made, or was about to be made when wick was stopped.
  struct Made {
    std::string what;    // the name of a step (hostnet/plan.h): "bridge", "tap wick0-t0"
    uint32_t index = 0;  // the interface's index; 0: not an interface, or not known yet
    friend bool operator==(const Made&, const Made&) = default;
  };

  std::string name;         // the name of the network and of its bridge
  net::Ipv4Subnet address;  // the host's address on the bridge
  std::string mac;          // the bridge's MAC address
  Nat nat = Nat::kNone;
  bool dhcp = true;               // true: dnsmasq gives DHCP and DNS
  std::string domain = "wick";    // the domain of the guests' names
  std::string user;               // the owner of the TAPs; empty: no TAPs
  uint32_t uid = 0;               // the ID of that user
  std::vector<std::string> taps;  // persistent TAPs with IFF_VNET_HDR and IFF_MULTI_QUEUE
  std::vector<Made> made;         // the recorded steps, in the order of creation

  const Made* find_made(std::string_view what) const;

  friend bool operator==(const HostNetwork&, const HostNetwork&) = default;
};

// The names of the recorded steps (Made::what). tap_step() returns the name of a TAP's step.
constexpr const char* kBridgeStep = "bridge";
constexpr const char* kFilterStep = "filter";
constexpr const char* kNeighboursStep = "neighbours";
constexpr const char* kSourcesStep = "sources";
constexpr const char* kSources6Step = "sources6";
constexpr const char* kGuardStep = "guard";
constexpr const char* kForwardStep = "forward";
constexpr const char* kInputStep = "input";
constexpr const char* kNatStep = "nat";
constexpr const char* kDhcpStep = "dhcp";
constexpr const char* kForwardingStep = "forwarding";  // net.ipv4.ip_forward, from 0 to 1
constexpr const char* kRedirectsStep = "redirects";    // accept_redirects was 0 before
constexpr const char* kForwardingGuardStep = "forwarding guard";
std::string tap_step(const std::string& tap);

// Returns true for a valid name of a network or an interface: a letter, then letters, digits, '-'
// and '_', at most 15 characters. (The kernel allows more characters, but they break nft and
// scripts.) all, any, default and lo are not valid, because they have other meanings.
bool is_network_name(std::string_view name);
// Returns true for labels of letters, digits and '-', at most 63 characters each, separated by
// dots.
bool is_domain_name(std::string_view name);

// Parses the text of the file, which is untrusted: every field is checked, so that all names
// can be used in command arguments and paths.
Result<HostNetwork> parse_host_network(std::string_view text);
std::string to_json(const HostNetwork& network);

// Return the folder that contains the networks' folders, and the folder of one network.
std::string networks_folder();
std::string network_folder(const std::string& name);
// Returns the path of a TAP's lock file, which is locked while the TAP is in use.
std::string tap_lock_path(const HostNetwork& network, const std::string& tap);
// Sets another folder for all networks, for tests. Its parent is checked as well.
void set_networks_folder(std::string folder);
// Creates the folder of the networks if it does not exist, readable for everyone whatever the umask
// is.
Result<void> make_networks_folder();

// Reads at most the first `max_bytes` of a file in a network's folder. Does not follow a symbolic
// link and does not block on a FIFO. kOwnersOnly refuses a file that anybody except root and the
// caller can have written.
enum class Trust : uint8_t { kOwnersOnly, kAny };
Result<std::string> read_network_file(const std::string& path, size_t max_bytes, Trust trust);

// Returns the state of a network, or nullopt if no network of that name is up. The error names
// the file and how to fix it. The bridge may be gone although the file exists.
Result<std::optional<HostNetwork>> find_host_network(const std::string& name = kDefaultNetwork);
// Returns the names of all networks that are up, sorted.
Result<std::vector<std::string>> host_network_names();

// Replaces the file atomically, and creates its folder if necessary.
Result<void> save_host_network(const HostNetwork& network);

}  // namespace wick::hostnet
