#include "hostnet/state.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/fd.h"
#include "base/printable.h"
#include "base/write_all.h"
#include "net/mac_address.h"

namespace wick::hostnet {

namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kVersion = 1;
constexpr size_t kMaxBytes = 64 << 10;
constexpr size_t kMaxNameBytes = 15;  // IFNAMSIZ without the NUL
constexpr const char* kNatNames[] = {"none", "nftables", "iptables"};

bool is_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Returns true for any name that getpwnam() may find, except those that a command would take for an
// option.
bool is_user_name(std::string_view name) {
  const auto unfit = [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; };
  return !name.empty() && name.size() <= 256 && name.front() != '-' &&
         std::ranges::none_of(name, unfit);
}

// Reads the members of a JSON object by name and type.
class Members {
 public:
  explicit Members(const Json& object) : object_(object) {}

  Result<std::string> text(const char* key) {
    const Json* const value = find(key);
    if (value == nullptr || !value->is_string()) return fail("\"{}\" is not a string", key);
    return value->get<std::string>();
  }
  Result<uint32_t> number(const char* key) {
    const Json* const value = find(key);
    if (value == nullptr || !value->is_number_unsigned() || value->get<uint64_t>() > UINT32_MAX)
      return fail("\"{}\" is not a 32-bit number", key);
    return value->get<uint32_t>();
  }
  Result<bool> boolean(const char* key) {
    const Json* const value = find(key);
    if (value == nullptr || !value->is_boolean()) return fail("\"{}\" is not true or false", key);
    return value->get<bool>();
  }
  Result<const Json*> list(const char* key) {
    const Json* const value = find(key);
    if (value == nullptr || !value->is_array()) return fail("\"{}\" is not a list", key);
    return value;
  }
  // Must be called last.
  Result<void> no_more() const {
    if (object_.size() > found_) return fail("it has unknown keys");
    return {};
  }

 private:
  const Json* find(const char* key) {
    if (!object_.is_object()) return nullptr;
    const auto value = object_.find(key);
    if (value == object_.end()) return nullptr;
    ++found_;
    return &*value;
  }

  const Json& object_;
  size_t found_ = 0;
};

Result<void> parse_taps(const Json& list, HostNetwork& network) {
  if (list.size() > kMaxTaps) return fail("\"taps\" has more than {} entries", kMaxTaps);
  for (const Json& tap : list) {
    if (!tap.is_string() || !is_network_name(tap.get_ref<const std::string&>()))
      return fail("\"taps\" has an entry that is not the name of an interface");
    const auto& name = tap.get_ref<const std::string&>();
    if (name == network.name || std::ranges::find(network.taps, name) != network.taps.end())
      return fail("\"taps\" has \"{}\" twice", name);
    network.taps.push_back(name);
  }
  if (network.taps.empty() != network.user.empty())
    return fail("\"taps\" and \"user\" contradict each other");
  return {};
}

Result<void> parse_made(const Json& list, HostNetwork& network) {
  constexpr std::string_view kSteps[] = {
      kBridgeStep,    kFilterStep,          kNeighboursStep, kSourcesStep, kSources6Step,
      kGuardStep,     kForwardStep,         kInputStep,      kNatStep,     kDhcpStep,
      kRedirectsStep, kForwardingGuardStep, kForwardingStep};
  for (const Json& entry : list) {
    Members members(entry);
    HostNetwork::Made made;
    made.what = TRY(members.text("what"));
    made.index = TRY(members.number("index"));
    TRY(members.no_more());
    const bool tap = std::ranges::any_of(
        network.taps, [&](const std::string& name) { return made.what == tap_step(name); });
    if (!tap && std::ranges::find(kSteps, made.what) == std::end(kSteps))
      return fail("\"made\" has \"{}\", which is not a step", made.what);
    if (network.find_made(made.what) != nullptr)
      return fail("\"made\" has \"{}\" twice", made.what);
    network.made.push_back(std::move(made));
  }
  return {};
}

std::string& folder_of_networks() {
  static std::string folder = "/run/wick/net";
  return folder;
}

// Fails unless only root and the caller can have changed the file.
Result<void> check_owner(const Fd& fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd.get(), &status) < 0) return fail_errno(errno, "{}: cannot stat", path);
  const bool owned = status.st_uid == 0 || status.st_uid == ::geteuid();
  if (owned && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return {};
  return with_hint(
      fail("{}: not trusted: {}", path,
           owned ? "others than its owner may write to it" : "its owner is not root"),
      fmt::format("check that all its content is from wick net, then: chown 0:0 {0} && chmod go-w "
                  "{0}",
                  path));
}

Result<void> check_folder(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "{}: cannot open the folder", path);
  return check_owner(fd, path);
}

// Creates a folder. Its mode does not depend on the umask: the owner may write, everyone may read.
Result<void> make_folder(const std::string& path) {
  const bool made = ::mkdir(path.c_str(), 0755) == 0;
  if (!made && errno != EEXIST) return fail_errno(errno, "{}: cannot create the folder", path);
  TRY(check_folder(path));
  if (made && ::chmod(path.c_str(), 0755) < 0)
    return fail_errno(errno, "{}: cannot change its mode", path);
  return {};
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Checks wick's folders down to the folder of `name`. The error is ENOENT if one does not exist.
Result<void> check_folders(const std::string& name = {}) {
  TRY(check_folder(parent_of(networks_folder())));
  TRY(check_folder(networks_folder()));
  return name.empty() ? Result<void>() : check_folder(network_folder(name));
}

std::string state_path(const std::string& name) { return network_folder(name) + "/state.json"; }

Result<void> write_file(const std::string& path, std::string_view text) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!fd.valid()) return fail_errno(errno, "{}: cannot create", path);
  ::fchmod(fd.get(), 0644);  // the mode must not depend on the umask
  if (const int error = write_all(fd.get(), text); error != 0)
    return fail_errno(error, "{}: cannot write", path);
  // /run is a tmpfs, where this costs nothing; elsewhere the data must be on disk before the
  // rename.
  if (::fsync(fd.get()) < 0) return fail_errno(errno, "{}: cannot write", path);
  return {};
}

}  // namespace

const HostNetwork::Made* HostNetwork::find_made(std::string_view what) const {
  const auto found = std::ranges::find(made, what, &Made::what);
  return found == made.end() ? nullptr : &*found;
}

std::string tap_step(const std::string& tap) { return "tap " + tap; }

bool is_network_name(std::string_view name) {
  // These names have a special meaning for `ip` or in sysctl paths.
  if (name == "all" || name == "default" || name == "lo" || name == "any") return false;
  const auto fit = [](char c) { return is_alnum(c) || c == '-' || c == '_'; };
  return !name.empty() && name.size() <= kMaxNameBytes && std::ranges::all_of(name, fit) &&
         is_alnum(name.front()) && std::isdigit(static_cast<unsigned char>(name.front())) == 0;
}

bool is_domain_name(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  while (true) {
    const size_t dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    const auto fit = [](char c) { return is_alnum(c) || c == '-'; };
    if (label.empty() || label.size() > 63 || !std::ranges::all_of(label, fit) ||
        label.front() == '-' || label.back() == '-')
      return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

Result<HostNetwork> parse_host_network(std::string_view text) {
  if (text.size() > kMaxBytes) return fail("it is larger than {} bytes", kMaxBytes);
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object()) return fail("it is not a JSON object");
  Members members(json);
  if (const auto version = members.number("version"); !version || *version != kVersion)
    return fail("its version is not {}: another version of wick wrote it", kVersion);
  HostNetwork network;
  network.name = TRY(members.text("name"));
  if (!is_network_name(network.name)) return fail("\"name\" is not a valid name of a network");
  const std::string subnet = TRY(members.text("address"));
  const auto address = net::parse_ipv4_subnet(subnet);
  if (!address || address->prefix_bits < 8 || address->prefix_bits > 30)
    return fail("\"address\" is not an IPv4 address with a prefix length of 8 to 30");
  network.address = *address;
  network.mac = TRY(members.text("mac"));
  if (!net::parse_mac(network.mac)) return fail("\"mac\" is not a MAC address");
  const std::string nat = TRY(members.text("nat"));
  const auto* const kind = std::ranges::find(kNatNames, nat);
  if (kind == std::end(kNatNames)) return fail("\"nat\" is not none, nftables or iptables");
  network.nat = static_cast<HostNetwork::Nat>(kind - kNatNames);
  network.dhcp = TRY(members.boolean("dhcp"));
  network.domain = TRY(members.text("domain"));
  if (!is_domain_name(network.domain)) return fail("\"domain\" is not a valid domain name");
  network.user = TRY(members.text("user"));
  if (!network.user.empty() && !is_user_name(network.user))
    return fail("\"user\" is not a valid user name");
  network.uid = TRY(members.number("uid"));
  const Json* const taps = TRY(members.list("taps"));
  TRY(parse_taps(*taps, network));
  const Json* const made = TRY(members.list("made"));
  TRY(parse_made(*made, network));
  TRY(members.no_more());
  return network;
}

std::string to_json(const HostNetwork& network) {
  Json json = {{"version", kVersion},
               {"name", network.name},
               {"address", net::ipv4_string(network.address)},
               {"mac", network.mac},
               {"nat", kNatNames[static_cast<size_t>(network.nat)]},
               {"dhcp", network.dhcp},
               {"domain", network.domain},
               {"user", network.user},
               {"uid", network.uid},
               {"taps", network.taps},
               {"made", Json::array()}};
  for (const auto& [what, index] : network.made)
    json["made"].push_back({{"what", what}, {"index", index}});
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

std::string networks_folder() { return folder_of_networks(); }

void set_networks_folder(std::string folder) { folder_of_networks() = std::move(folder); }

Result<void> make_networks_folder() {
  TRY(make_folder(parent_of(networks_folder())));
  return make_folder(networks_folder());
}

Result<std::string> read_network_file(const std::string& path, size_t max_bytes, Trust trust) {
  // O_NONBLOCK, because the path might be a FIFO.
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW));
  if (!fd.valid()) return fail_errno(errno, "{}: cannot open", path);
  struct stat status {};
  if (::fstat(fd.get(), &status) < 0 || !S_ISREG(status.st_mode))
    return fail("{}: not a regular file", path);
  if (trust == Trust::kOwnersOnly) TRY(check_owner(fd, path));
  std::string text(max_bytes, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "{}: cannot read", path);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

std::string network_folder(const std::string& name) { return networks_folder() + "/" + name; }

Result<std::optional<HostNetwork>> find_host_network(const std::string& name) {
  if (!is_network_name(name)) return fail("'{}': not a valid name of a network", printable(name));
  const std::string path = state_path(name);
  const auto checked = check_folders(name);
  const auto text = checked ? read_network_file(path, kMaxBytes + 1, Trust::kOwnersOnly)
                            : Result<std::string>(std::unexpected(checked.error()));
  if (!text) {
    if (text.error().code == ENOENT) return std::nullopt;
    return std::unexpected(text.error());
  }
  auto network = parse_host_network(*text);
  if (network && network->name != name) network = fail("it belongs to network {}", network->name);
  if (!network)
    return with_hint(
        fail("{}: damaged: {}", path, network.error().message()),
        "undo the network by hand (docs/networks.md) and remove " + network_folder(name));
  return *std::move(network);
}

Result<std::vector<std::string>> host_network_names() {
  std::vector<std::string> names;
  if (const auto checked = check_folders(); !checked) {
    if (checked.error().code == ENOENT) return names;
    return std::unexpected(checked.error());
  }
  std::error_code error;
  std::filesystem::directory_iterator entry(networks_folder(), error), end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    std::error_code absent;
    if (is_network_name(name) && std::filesystem::exists(state_path(name), absent))
      names.push_back(name);
  }
  if (error) return fail_errno(error.value(), "{}: cannot read", networks_folder());
  std::ranges::sort(names);
  return names;
}

Result<void> save_host_network(const HostNetwork& network) {
  const std::string path = state_path(network.name);
  TRY(make_networks_folder());
  TRY(make_folder(network_folder(network.name)));
  TRY(write_file(path + ".new", to_json(network)));
  if (::rename((path + ".new").c_str(), path.c_str()) < 0)
    return fail_errno(errno, "{}: cannot replace", path);
  return {};
}

std::string tap_lock_path(const HostNetwork& network, const std::string& tap) {
  return network_folder(network.name) + "/" + tap + ".lock";
}

}  // namespace wick::hostnet
