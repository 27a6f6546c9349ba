#include "hostnet/host_view.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/process.h"
#include "hostnet/leases.h"
#include "hostnet/plan.h"

namespace wick::hostnet {

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// The shortest prefix of a route that can conflict. A shorter prefix is a default route, or a part
// of one, as VPNs set it.
constexpr uint8_t kDefaultRouteBits = 4;

std::string text_of(const Json& object, const char* key) {
  const auto value = object.is_object() ? object.find(key) : object.end();
  return value != object.end() && value->is_string() ? value->get<std::string>() : std::string();
}

uint32_t number_of(const Json& object, const char* key) {
  const auto value = object.is_object() ? object.find(key) : object.end();
  return value != object.end() && value->is_number_unsigned() ? value->get<uint32_t>() : 0;
}

const Json& member_of(const Json& object, const char* key) {
  static const Json none;
  const auto value = object.is_object() ? object.find(key) : object.end();
  return value != object.end() ? *value : none;
}

Result<Json> parse_list(std::string_view text) {
  // Old versions of ip write nothing for an empty list.
  if (text.find_first_not_of(" \n") == std::string_view::npos) return Json::array();
  Json list = Json::parse(text, nullptr, false);
  if (!list.is_array()) return fail("ip: the output is not a JSON list");
  return list;
}

Result<std::string> ask_ip(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "ip");
  const auto outcome = TRY(run_process(arguments));
  if (outcome.status != 0) return fail("{}: {}", shell_words(arguments), one_line(outcome.errors));
  return outcome.output;
}

// Returns what can be read of a file, and ignores errors: a file in /proc/PID disappears when
// its process ends.
std::string file_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// Returns true if the process is in this network namespace, or if the caller may not see its
// namespace.
bool is_in_our_namespace(const fs::path& process) {
  std::error_code error;
  const fs::path theirs = fs::read_symlink(process / "ns/net", error);
  if (error) return true;
  return theirs == fs::read_symlink("/proc/thread-self/ns/net", error);
}

// Returns the users that dnsmasq may run as: root, or the default user, which differs between
// distributions.
std::vector<uid_t> users_of_dnsmasq() {
  std::vector<uid_t> users = {0};
  for (const char* name : {"dnsmasq", "nobody"})
    if (const passwd* const user = ::getpwnam(name)) users.push_back(user->pw_uid);
  return users;
}

// Returns true if all user IDs of the process (real, effective, saved, file system) are in `users`.
bool is_of_users(const fs::path& process, const std::vector<uid_t>& users) {
  std::ifstream status(process / "status");
  constexpr std::string_view kKey = "Uid:";
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(kKey)) continue;
    std::istringstream ids(line.substr(kKey.size()));
    return std::all_of(std::istream_iterator<uid_t>(ids), {},
                       [&](uid_t id) { return std::ranges::find(users, id) != users.end(); });
  }
  return false;
}

// Returns true if the process runs a program of this name, or if the caller may not see its
// program. The arguments are no proof, because the user of a setuid program chooses them.
bool runs(const fs::path& process, std::string_view name) {
  std::error_code error;
  const std::string program = fs::read_symlink(process / "exe", error).filename();
  return error || program == name || program == fmt::format("{} (deleted)", name);
}

// Returns all processes, each with its folder in /proc.
std::vector<std::pair<pid_t, fs::path>> processes() {
  std::vector<std::pair<pid_t, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    pid_t pid = 0;
    const auto [last, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (bad == std::errc() && last == name.data() + name.size())
      found.emplace_back(pid, entry->path());
  }
  return found;
}

// An open file of a process: the number of its descriptor, and the kernel's name of the file.
struct OpenFile {
  std::string descriptor;
  std::string target;
};

// Returns the open files of a process; nullopt if the caller may not see them.
std::optional<std::vector<OpenFile>> open_files(const fs::path& process) {
  std::vector<OpenFile> files;
  std::error_code error;
  fs::directory_iterator entry(process / "fd", error), end;
  if (error) return std::nullopt;
  for (; !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    files.push_back({entry->path().filename(), fs::read_symlink(entry->path(), gone)});
  }
  return files;
}

// The machine's name is published as the name of a memfd, which the kernel shows to users who
// may inspect the process.
constexpr std::string_view kMachineFile = "wick-machine:";

std::string machine_name(const std::vector<OpenFile>& files, pid_t pid) {
  const std::string prefix = fmt::format("/memfd:{}", kMachineFile);
  constexpr std::string_view kSuffix = " (deleted)";
  for (const auto& [descriptor, target] : files)
    if (target.starts_with(prefix) && target.ends_with(kSuffix))
      return target.substr(prefix.size(), target.size() - prefix.size() - kSuffix.size());
  return fmt::format("wick-{}", pid);
}

// Returns the interface to which a descriptor of /dev/net/tun is attached; empty: none.
std::string interface_of(const fs::path& process, const std::string& descriptor) {
  std::ifstream info(process / "fdinfo" / descriptor);
  constexpr std::string_view kKey = "iff:\t";
  for (std::string line; std::getline(info, line);)
    if (line.starts_with(kKey)) return line.substr(kKey.size());
  return {};
}

}  // namespace

const HostLink* HostView::find(std::string_view name) const {
  const auto found = std::ranges::find(links, name, &HostLink::name);
  return found == links.end() ? nullptr : &*found;
}

Result<std::vector<HostLink>> parse_links(std::string_view json) {
  std::vector<HostLink> links;
  for (const Json& entry : TRY(parse_list(json))) {
    HostLink link;
    link.name = text_of(entry, "ifname");
    if (link.name.empty()) continue;  // ip 4.x prints {} for a link that a filter hides
    link.index = number_of(entry, "ifindex");
    link.mac = text_of(entry, "address");
    link.master = text_of(entry, "master");
    const Json& info = member_of(entry, "linkinfo");
    link.kind = text_of(info, "info_kind");
    const Json& owner = member_of(member_of(info, "info_data"), "user");
    if (owner.is_string()) link.tap_owner = owner.get<std::string>();
    if (owner.is_number_unsigned()) link.tap_owner = fmt::format("{}", owner.get<uint32_t>());
    for (const Json& flag : member_of(entry, "flags")) link.up = link.up || flag == "UP";
    for (const Json& address : member_of(entry, "addr_info")) {
      const auto parsed = net::parse_ipv4(text_of(address, "local"));
      const uint32_t bits = number_of(address, "prefixlen");
      if (parsed && bits <= 32) link.addresses.push_back({*parsed, static_cast<uint8_t>(bits)});
    }
    links.push_back(std::move(link));
  }
  return links;
}

Result<std::vector<HostRoute>> parse_routes(std::string_view json) {
  std::vector<HostRoute> routes;
  for (const Json& entry : TRY(parse_list(json))) {
    // "default" is not an address.
    const auto destination = net::parse_ipv4_subnet(text_of(entry, "dst"));
    if (!destination || destination->prefix_bits < kDefaultRouteBits) continue;
    routes.push_back({*destination, text_of(entry, "dev")});
  }
  return routes;
}

Result<HostView> look_at_host() {
  HostView view;
  const std::string links = TRY(ask_ip({"-j", "-d", "addr", "show"}));
  view.links = TRY(parse_links(links));
  const std::string routes = TRY(ask_ip({"-j", "-4", "route", "show", "table", "all"}));
  view.routes = TRY(parse_routes(routes));
  view.forwarding = file_text(kForwardingPath).starts_with('1');
  return view;
}

pid_t find_dnsmasq(const std::string& network) {
  const std::string leases = dhcp_leases_path(network);
  const auto noted = read_network_file(dnsmasq_pid_path(network), 32, Trust::kAny);
  const auto users = users_of_dnsmasq();
  for (const auto& [pid, process] : processes()) {
    if (!is_of_users(process, users) || !runs(process, "dnsmasq") || !is_in_our_namespace(process))
      continue;
    const auto files = open_files(process);
    const auto is_leases = [&](const OpenFile& file) {
      return file.target == leases || file.target == leases + " (deleted)";
    };
    if (files ? std::ranges::any_of(*files, is_leases)
              : noted && *noted == fmt::format("{}\n", pid))
      return pid;
  }
  return 0;
}

std::vector<std::string> taps_of(const HostNetwork& network, const HostView& host) {
  std::vector<std::string> taps = network.taps;
  for (const HostLink& link : host.links)
    if (link.master == network.name && link.kind == "tun" &&
        std::ranges::find(network.taps, link.name) == network.taps.end())
      taps.push_back(link.name);
  return taps;
}

Fd publish_machine_name(const std::string& name) {
  constexpr size_t kMaxBytes = 249;  // memfd_create(2)
  const std::string file = (std::string(kMachineFile) + name).substr(0, kMaxBytes);
  return Fd(::memfd_create(file.c_str(), MFD_CLOEXEC));
}

std::vector<TapUser> tap_users() {
  std::vector<TapUser> users;
  for (const auto& [pid, process] : processes()) {
    if (!is_in_our_namespace(process)) continue;
    const auto files = open_files(process).value_or(std::vector<OpenFile>());
    for (const auto& [descriptor, target] : files) {
      if (target != "/dev/net/tun") continue;
      TapUser user;
      user.tap = interface_of(process, descriptor);
      user.pid = pid;
      user.program = file_text(process / "comm");
      if (user.program.ends_with('\n')) user.program.pop_back();
      if (user.program == "wick") user.machine = machine_name(files, pid);
      // A process has one descriptor for each queue of a TAP.
      const bool known = std::ranges::any_of(
          users, [&](const TapUser& u) { return u.tap == user.tap && u.pid == pid; });
      if (!user.tap.empty() && !known) users.push_back(std::move(user));
    }
  }
  return users;
}

}  // namespace wick::hostnet
