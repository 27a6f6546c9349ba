// A network that `wick net up` made on this host, and the file that tells of it:
// /run/wick/net/NAME/state.json. Only root writes it, everyone may read it. It holds
// each thing that was made, so that it can be undone exactly. It tells root what to
// remove, so it counts only in folders that nobody but root (or, for what the caller made
// itself, the caller) may write to.
//
// Thread rule: none; values and functions. set_networks_folder() comes before all others.
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
constexpr unsigned kMostTaps = 64;

struct HostNetwork {
  enum class Nat : uint8_t { kNone, kNftables, kIptables };

  // Something that was made, or was about to be when wick was stopped.
  struct Made {
    std::string what;    // the name of a step (hostnet/plan.h): "bridge", "tap wick0-t0"
    uint32_t index = 0;  // of the interface; 0: of none, or not known yet
    friend bool operator==(const Made&, const Made&) = default;
  };

  std::string name;         // of the network and of its bridge
  net::Ipv4Subnet address;  // the host's, on the bridge
  std::string mac;          // the bridge's
  Nat nat = Nat::kNone;
  bool dhcp = true;               // and names, by dnsmasq
  std::string domain = "wick";    // of the guests' names
  std::string user;               // whose the TAPs are; empty: there are none
  uint32_t uid = 0;               // of that user
  std::vector<std::string> taps;  // persistent; IFF_VNET_HDR and IFF_MULTI_QUEUE
  std::vector<Made> made;         // in the order of making

  const Made* find_made(std::string_view what) const;

  friend bool operator==(const HostNetwork&, const HostNetwork&) = default;
};

// The steps that more than one place names.
constexpr const char* kBridgeStep = "bridge";
constexpr const char* kForwardingStep = "forwarding";  // net.ipv4.ip_forward, from 0 to 1
constexpr const char* kRedirectsStep = "redirects";    // accept_redirects was 0 before
constexpr const char* kForwardingGuardStep = "forwarding guard";
std::string tap_step(const std::string& tap);

// What a network can be called, and an interface: a letter, then letters, digits,
// '-' and '_', at most 15 characters. (The kernel would take more, people's scripts
// and nft would not.)
bool is_network_name(std::string_view name);
// Labels of letters, digits and '-', at most 63 characters each, with dots between.
bool is_domain_name(std::string_view name);

// The file's text. Whatever it holds: every field is checked, so that all names are
// fit for a command's arguments and for paths.
Result<HostNetwork> parse_host_network(std::string_view text);
std::string to_json(const HostNetwork& network);

// Where all networks' folders are, and that of one.
std::string networks_folder();
std::string network_folder(const std::string& name);
// The file whose lock says that the TAP is in use.
std::string tap_lock_path(const HostNetwork& network, const std::string& tap);
// For tests: another one. Its parent is checked as well.
void set_networks_folder(std::string folder);
// Makes it if it is not there, readable for everyone whatever the umask.
Result<void> make_networks_folder();

// A file in a network's folder. A symbolic link is not followed, a FIFO not waited for; of
// a longer one there are the first `most_bytes`. kOwnersOnly refuses what others than root
// and the caller may have written.
enum class Trust : uint8_t { kOwnersOnly, kAny };
Result<std::string> read_network_file(const std::string& path, size_t most_bytes, Trust trust);

// Nothing if no network of that name is up. An error names the file and the mend.
// That the file is there does not mean that the bridge still is.
Result<std::optional<HostNetwork>> find_host_network(const std::string& name = kDefaultNetwork);
// All that are up, by name.
Result<std::vector<std::string>> host_network_names();

// Writes the file as a whole, and its folder where there is none: a reader sees
// the old one or the new one.
Result<void> save_host_network(const HostNetwork& network);

}  // namespace wick::hostnet
