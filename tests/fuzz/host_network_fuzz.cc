// The files of wick net: the state, whose names become parts of commands and paths, and the DHCP
// leases, which contain the names that guests chose.
#include <string_view>

#include "hostnet/leases.h"
#include "hostnet/state.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick::hostnet;
using wick::fuzz::require;

void check_network(std::string_view text) {
  const auto network = parse_host_network(text);
  if (!network) return require(!network.error().message().empty());
  require(is_network_name(network->name) && is_domain_name(network->domain));
  require(network->address.prefix_bits >= 8 && network->address.prefix_bits <= 30);
  require(network->mac.size() == 17 && network->taps.size() <= kMaxTaps);
  require(network->taps.empty() == network->user.empty());
  require(!network->user.starts_with('-') && network->user.find('\n') == std::string::npos);
  for (const std::string& tap : network->taps) require(is_network_name(tap));
  for (const auto& made : network->made) require(network->find_made(made.what) == &made);
  const auto again = parse_host_network(to_json(*network));
  require(again && *again == *network);
}

void check_leases(std::string_view text) {
  const auto leases = parse_dhcp_leases(text);
  require(leases.size() <= text.size() / 10);
  for (const DhcpLease& lease : leases) {
    require(lease.expires >= 0 && lease.mac.size() <= 64);
    require(lease.name.find_first_of(" \n") == std::string::npos);
  }
  // Lines of "ADDRESS NAME NAME.wick" in plain characters.
  for (const char c : hosts_lines(leases, "wick", "build-host"))
    require(c == '\n' || (c >= ' ' && c <= '~' && c != '#'));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_network(text);
  check_leases(text);
  return 0;
}
