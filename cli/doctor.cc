#include "cli/doctor.h"

#include <fcntl.h>
#include <liburing.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/fd.h"
#include "base/printable.h"

namespace wick::cli {
namespace {

using Level = Finding::Level;

constexpr int kKvmApiVersion = 12;  // this version will not change (api.rst, 4.1)

int error_of_opening(const char* path) {
  return Fd(::open(path, O_RDWR | O_CLOEXEC)).valid() ? 0 : errno;
}

int error_of_io_uring() {
  io_uring ring{};
  const int error = ::io_uring_queue_init(1, &ring, 0);
  if (error == 0) ::io_uring_queue_exit(&ring);
  return -error;
}

std::string first_line(const char* path, std::string_view start = {}) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(start)) return line;
  return {};
}

bool has_word(const std::string& line, std::string_view wanted) {
  std::istringstream words(line);
  for (std::string word; words >> word;)
    if (word == wanted) return true;
  return false;
}

Result<std::optional<hostnet::HostNetwork>> some_network() {
  auto network = TRY(hostnet::find_host_network());
  if (network) return network;
  const auto names = TRY(hostnet::host_network_names());
  if (names.empty()) return std::nullopt;
  return hostnet::find_host_network(names.front());
}

NetFacts look_at_network() {
  NetFacts facts;
  auto network = some_network();
  if (!network) {
    facts.error = network.error().message();
    return facts;
  }
  facts.network = *std::move(network);
  if (facts.network) {
    const auto* const made = facts.network->find_made(hostnet::kBridgeStep);
    const std::string index =
        first_line(fmt::format("/sys/class/net/{}/ifindex", facts.network->name).c_str());
    facts.bridge_exists = made != nullptr && index == fmt::format("{}", made->index);
  }
  const passwd* const user = ::getpwuid(::geteuid());
  facts.user = user != nullptr ? user->pw_name : "USER";
  facts.root = ::geteuid() == 0;
  return facts;
}

HostFacts look() {
  HostFacts facts;
  facts.kvm = vmm::probe_kvm();
  const std::string flags = first_line("/proc/cpuinfo", "flags");
  facts.has_virtualization = has_word(flags, "vmx") || has_word(flags, "svm");
  facts.tun_error = error_of_opening("/dev/net/tun");
  facts.vhost_net_error = error_of_opening("/dev/vhost-net");
  facts.net = look_at_network();
  facts.io_uring_error = error_of_io_uring();
  // The file's text is, for instance, "always [madvise] never": the chosen word is in brackets.
  const std::string choices = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t start = choices.find('[') + 1;
  facts.huge_pages = choices.substr(start, std::max(choices.find(']'), start) - start);
  return facts;
}

Finding open_finding(const vmm::KvmFacts& kvm, bool has_virtualization) {
  if (kvm.open_error == 0) return {Level::kOk, "/dev/kvm: open to you"};
  const char* fix = "load kvm_intel or kvm_amd (modprobe)";
  if (kvm.open_error == EACCES || kvm.open_error == EPERM)
    fix = "add yourself to the kvm group, or run as root";
  else if (!has_virtualization)
    fix = "it needs hardware virtualization, see below";
  return {Level::kFail, fmt::format("/dev/kvm: {}; {}", std::strerror(kvm.open_error), fix)};
}

// Returns the finding about hardware virtualization. Without it KVM_CREATE_VM may succeed, but
// stock kernels do not boot.
Finding virtualization_finding(const HostFacts& facts) {
  if (facts.has_virtualization) return {Level::kOk, "hardware virtualization: the CPU has it"};
  if (facts.kvm.machine_error == 0 && !facts.kvm.capabilities.empty())
    return {Level::kFail,
            "hardware virtualization: the CPU shows neither vmx nor svm, so this KVM only emulates "
            "guests' kernels, and stock kernels do not boot; use a host with hardware "
            "virtualization"};
  return {Level::kFail,
          "hardware virtualization: the CPU shows neither vmx nor svm; enable VT-x or AMD-V in the "
          "firmware, or nested virtualization if this is a virtual machine"};
}

void add_kvm(std::vector<Finding>& findings, const vmm::KvmFacts& kvm) {
  if (kvm.api_version != kKvmApiVersion) {
    findings.push_back(
        {Level::kFail, kvm.api_version < 0
                           ? std::string("KVM: /dev/kvm is not KVM; find out what created it")
                           : fmt::format("KVM: API version {}, wick needs {}; use a newer kernel",
                                         kvm.api_version, kKvmApiVersion)});
    return;
  }
  findings.push_back({Level::kOk, fmt::format("KVM: API version {}", kvm.api_version)});
  if (kvm.machine_error == 0)
    findings.push_back({Level::kOk, "KVM: can create machines"});
  else
    findings.push_back(
        {Level::kFail,
         fmt::format("KVM: cannot create a machine: {}; {}", std::strerror(kvm.machine_error),
                     kvm.machine_error == EBUSY ? "stop the other hypervisor that uses the CPU"
                                                : "see the kernel log (dmesg)")});
  for (const auto& [name, use, present] : kvm.capabilities) {
    if (present)
      findings.push_back({Level::kOk, name});
    else if (use == nullptr)
      findings.push_back({Level::kFail, fmt::format("{}: missing; use a newer kernel", name)});
    else
      findings.push_back(
          {Level::kWarn, fmt::format("{}: missing, {}; use a newer kernel", name, use)});
  }
}

// Returns the finding about a feature that only some runs need.
Finding extra(const char* name, int error, const char* purpose, const char* fix) {
  if (error == 0) return {Level::kOk, fmt::format("{}: works", name)};
  return {Level::kWarn, fmt::format("{}: {}; {}: {}", name, std::strerror(error), purpose, fix)};
}

// Returns the finding about the network. A missing network is not a problem, because not everyone
// needs a network.
Finding network_finding(const NetFacts& facts) {
  if (!facts.error.empty()) return {Level::kWarn, "wick net: " + printable(facts.error)};
  if (!facts.network)
    return {Level::kOk, "wick net: no network is up; to make one: " +
                            (facts.root ? std::string("wick net up")
                                        : "sudo wick net up --user " + facts.user)};
  const hostnet::HostNetwork& network = *facts.network;
  if (!facts.bridge_exists)
    return {Level::kWarn,
            fmt::format("wick net: the bridge {0} is gone; sudo wick net up {0}", network.name)};
  const std::string up = fmt::format("wick net: {} is up", network.name);
  if (facts.root) return {Level::kOk, up};
  if (network.user == facts.user)
    return {Level::kOk, fmt::format("{}, with {} TAP{} for you", up, network.taps.size(),
                                    network.taps.size() == 1 ? "" : "s")};
  if (network.taps.empty())
    return {Level::kWarn, fmt::format("{}, but has no TAPs for you; sudo wick net up {} --user {}",
                                      up, network.name, facts.user)};
  return {Level::kWarn,
          fmt::format("{}, but its TAPs are for {}; sudo wick net up NAME --user {} makes another",
                      up, printable(network.user), facts.user)};
}

}  // namespace

std::vector<Finding> diagnose(const HostFacts& facts) {
  std::vector<Finding> findings = {open_finding(facts.kvm, facts.has_virtualization)};
  if (facts.kvm.open_error == 0) add_kvm(findings, facts.kvm);
  findings.push_back(virtualization_finding(facts));
  const bool forbidden = facts.tun_error == EACCES || facts.tun_error == EPERM;
  findings.push_back(extra("/dev/net/tun", facts.tun_error, "for networks on a TAP",
                           forbidden ? "let your user open it, or run as root" : "modprobe tun"));
  findings.push_back(
      extra("/dev/vhost-net", facts.vhost_net_error, "for faster networks",
            facts.vhost_net_error == ENOENT ? "modprobe vhost_net" : "let your user open it"));
  findings.push_back(network_finding(facts.net));
  findings.push_back(extra("io_uring", facts.io_uring_error, "disks use a thread, which is slower",
                           facts.io_uring_error == EPERM
                               ? "sysctl kernel.io_uring_disabled=0, or allow it in the container"
                               : "use a kernel that supports it"));
  if (facts.huge_pages == "always" || facts.huge_pages == "madvise")
    findings.push_back({Level::kOk, "huge pages: " + facts.huge_pages});
  else
    findings.push_back({Level::kWarn,
                        "huge pages: off, which makes guests slower: "
                        "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled"});
  return findings;
}

int doctor() {
  bool works = true;
  for (const auto& [level, text] : diagnose(look())) {
    const char* const name = level == Level::kOk ? "ok" : level == Level::kWarn ? "warn" : "fail";
    fmt::print("{:<4}  {}\n", name, text);
    works = works && level != Level::kFail;
  }
  return works ? 0 : 1;
}

}  // namespace wick::cli
