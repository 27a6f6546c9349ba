#include "cli/net/options.h"

#include <span>

#include "cli/spec.h"
#include "hostnet/address.h"

namespace wick::cli {

namespace {

using hostnet::NetCommand;

constexpr const char* kNetHelp =
    R"(NAME is the name of the network and of its bridge, by default wick0. up and down
need root; docs/networks.md describes what they make.

Example:
  sudo wick net up --user alice
  wick run -k bzImage -d alpine.ext4 -n tap)";

constexpr const char* kUpHelp =
    R"(Makes a bridge with an address, NAT to the outside (nftables or iptables), and
DHCP and DNS for the guests (dnsmasq). For a network that is already up it
repairs what is missing and adds the requested TAPs; to change anything else,
take the network down first. The default address is the first free network of
10.87.0.1/24, 10.87.1.1/24, ... and then 192.168.87.1/24, ...

Example:
  sudo wick net up --user alice --taps 4)";

constexpr const char* kDownHelp =
    R"(Undoes only what wick net up made. It is not an error if the network is not up.

Example:
  sudo wick net down)";

constexpr const char* kStatusHelp =
    R"(Without NAME it shows all networks that are up. Root also sees which machines of
other users use the TAPs.
Exit status: 0, or 1 if the network is not up.

Example:
  wick net status --output json)";

constexpr const char* kHostsHelp =
    R"(Prints lines for a hosts file, made from the DHCP leases. Without NAME it prints
those of all networks.

Example:
  wick net hosts)";

constexpr OptionRow kName = {"NAME", "", "the network (wick0)"};
constexpr OptionRow kDryRun = {"--dry-run", nullptr, "only print the shell commands"};
constexpr OptionRow kVerbose = {"-v", nullptr,
                                "report what existed or was gone; -vv: each command"};

constexpr OptionRow kUpOptions[] = {
    {"--user", "USER", "make TAPs that USER's machines can use without root"},
    {"--taps", "N", "number of TAPs, 1 to 64; with --user (8)"},
    {"--address", "CIDR", "the host's address (the first free network)"},
    {"--domain", "DOMAIN", "domain of the guests' names (wick)"},
    {"--no-nat", nullptr, "guests reach only each other and the host"},
    {"--no-dhcp", nullptr, "no dnsmasq, so neither addresses nor names"},
    kDryRun,
    kVerbose,
    kName,
};
constexpr OptionRow kDownOptions[] = {kDryRun, kVerbose, kName};
constexpr OptionRow kStatusOptions[] = {{"--output", "human|json", "the output format (human)"},
                                        kName};
constexpr OptionRow kHostsOptions[] = {kName};

Result<std::optional<std::string>> name_of(const Given& given, unsigned taps = 0) {
  const auto name = given.last("NAME");
  if (name && !hostnet::is_network_name(*name))
    return with_hint(fail("NAME '{}': not a valid name of a network", *name),
                     "use a letter, then letters, digits, '-' and '_', at most 15 characters; "
                     "not all, any, default or lo");
  const size_t room = 15 - (taps > 10 ? 4 : taps > 0 ? 3 : 0);
  if (name.value_or("").size() > room)
    return fail("NAME '{}': too long for the names of {} TAPs; use at most {} characters", *name,
                taps, room);
  return name;
}

Result<unsigned> parse_taps(const std::string& text) {
  const auto count = parse_count(text);
  if (!count || *count > hostnet::kMaxTaps)
    return fail("--taps '{}': must be a number, 1 to {}", text, hostnet::kMaxTaps);
  return *count;
}

Result<NetCommand> make_up(const Given& given) {
  hostnet::NetUp up;
  if (const auto taps = given.last("taps")) up.taps = TRY(parse_taps(*taps));
  up.user = given.last("user");
  if (up.user && up.user->empty()) return fail("--user: needs the name of a user");
  if (up.taps && !up.user) return fail("--taps: needs --user, the owner of the TAPs");
  const unsigned taps = up.user ? up.taps.value_or(hostnet::kDefaultTaps) : 0;
  up.name = TRY(name_of(given, taps)).value_or(up.name);
  if (const auto address = given.last("address")) {
    auto parsed = hostnet::parse_network_address(*address);
    if (!parsed) return fail("--address '{}': {}", *address, parsed.error().message());
    up.address = *parsed;
  }
  up.domain = given.last("domain");
  if (up.domain && !hostnet::is_domain_name(*up.domain))
    return fail("--domain '{}': must be letters, digits and '-', separated by dots", *up.domain);
  up.no_nat = given.has("no-nat");
  up.no_dhcp = given.has("no-dhcp");
  up.dry_run = given.has("dry-run");
  up.verbosity = given.count("v");
  return up;
}

Result<NetCommand> make_down(const Given& given) {
  hostnet::NetDown down;
  down.name = TRY(name_of(given)).value_or(down.name);
  down.dry_run = given.has("dry-run");
  down.verbosity = given.count("v");
  return down;
}

Result<NetCommand> make_status(const Given& given) {
  hostnet::NetStatus status;
  status.name = TRY(name_of(given));
  status.json = given.last("output") == "json";
  return status;
}

Result<NetCommand> make_hosts(const Given& given) { return hostnet::NetHosts{TRY(name_of(given))}; }

const CommandRow<NetCommand> kCommands[] = {
    {{"up", "Makes a network for guests.", kUpHelp, kUpOptions}, make_up},
    {{"down", "Undoes exactly what up did.", kDownHelp, kDownOptions}, make_down},
    {{"status", "Shows networks and who uses them.", kStatusHelp, kStatusOptions}, make_status},
    {{"hosts", "Prints the guests' names and addresses.", kHostsHelp, kHostsOptions}, make_hosts},
};

}  // namespace

CommandTable<NetCommand> net_commands(CLI::App& wick, bool filled) {
  return {wick, filled, "net", "Makes a network for guests on this host.", kNetHelp, kCommands};
}

}  // namespace wick::cli
