#include "cli/run_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "cli/spec.h"

namespace wick::cli {

namespace {

Result<void> set_path(std::string& path, const std::string& value) {
  if (value.empty()) return fail("needs a file name");
  path = value;
  return {};
}

Result<void> set_name(std::string& name, const std::string& value) {
  const auto unfit = [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '/'; };
  if (value.empty() || std::any_of(value.begin(), value.end(), unfit))
    return fail("a name must not be empty or contain blanks or slashes");
  name = value;
  return {};
}

Result<void> set_log_level(std::string& level, const std::string& value) {
  constexpr std::array<std::string_view, 7> kLevels = {"trace", "debug",    "info", "warning",
                                                       "error", "critical", "off"};
  if (std::find(kLevels.begin(), kLevels.end(), value) == kLevels.end())
    return fail("must be one of {}", fmt::join(kLevels, ", "));
  level = value;
  return {};
}

// False for `first`, true for `second`.
Result<bool> one_of(std::string_view value, std::string_view first, std::string_view second) {
  if (value == first) return false;
  if (value == second) return true;
  return fail("must be {} or {}", first, second);
}

constexpr RunOption kRunOptions[] = {
    {"-k,--kernel", "FILE", "kernel: bzImage or ELF vmlinux (the newest in /boot)", false,
     [](RunOptions& o, const std::string& v) { return set_path(o.machine.kernel_path, v); }},
    {"-i,--initrd", "FILE|auto", "initramfs; auto: the one beside the kernel", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.initrd_auto = v == "auto";
       return o.initrd_auto ? Result<void>() : set_path(o.machine.initrd_path, v);
     }},
    {"-a,--append", "TEXT", "appended to the generated command line", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.append = v;
       return {};
     }},
    {"--cmdline", "TEXT", "the whole command line; nothing is generated", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.cmdline = v;
       return {};
     }},
    {"-m,--memory", "SIZE", "guest RAM with K, M or G; default unit MiB (512M)", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.memory_bytes = TRY(parse_memory_size(v));
       return {};
     }},
    {"-c,--cpus", "N", "virtual CPUs (1)", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.cpus = TRY(parse_cpus(v));
       return {};
     }},
    {"-d,--disk", "SPEC", "a disk; repeat for more", true,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.disks.push_back(TRY(parse_disk(v)));
       return {};
     }},
    {"--cdrom", "FILE", "an ISO in a CD-ROM drive", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       vmm::DiskConfig cdrom;
       TRY(set_path(cdrom.path, v));
       cdrom.device = vmm::DiskConfig::Device::kIde;
       cdrom.media = vmm::DiskConfig::Media::kCdrom;
       cdrom.read_only = true;
       o.machine.disks.push_back(std::move(cdrom));
       return {};
     }},
    {"-n,--net", "SPEC", "a network card; repeat for more (none)", true,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       if (const auto net = TRY(parse_net(v))) o.machine.nets.push_back(*net);
       return {};
     }},
    {"-s,--serial", "SPEC", "connects ttyS0; repeat up to ttyS3 (stdio)", true,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.serials.push_back(TRY(parse_serial(v)));
       return {};
     }},
    {"--console", "SPEC", "a virtio console, hvc0", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.console = TRY(parse_serial(v));
       return {};
     }},
    {"--rng", "on|off|FILE", "entropy for the guest, from getrandom or FILE (on)", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       if (v == "off")
         o.machine.rng.reset();
       else if (v != "on")
         return set_path(o.machine.rng.emplace(), v);
       return {};
     }},
    {"--transport", "pci|mmio", "the transport of virtio devices (pci)", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       using Transport = vmm::MachineConfig::Transport;
       o.machine.transport = TRY(one_of(v, "pci", "mmio")) ? Transport::kMmio : Transport::kPci;
       return {};
     }},
    {"--acpi", "on|off", "describe the machine in ACPI tables (on)", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.acpi = TRY(parse_switch(v));
       return {};
     }},
    {"--on-reboot", "exit|reset", "the effect of a guest's reboot (exit)", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.machine.reset_on_reboot = TRY(one_of(v, "exit", "reset"));
       return {};
     }},
    {"--name", "NAME", "the machine's name (wick-PID)", false,
     [](RunOptions& o, const std::string& v) { return set_name(o.machine.name, v); }},
    {"--timeout", "SECONDS", "end the run after this time", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.timeout = TRY(parse_seconds(v));
       return {};
     }},
    {"--stats", "[FORM]", "print statistics of the exits: table or json", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.stats = TRY(parse_stats(v.empty() ? "table" : v));  // empty: --stats without a value
       o.machine.stats = o.stats.kind != StatsForm::Kind::kOff;
       return {};
     }},
    {"--log-level", "LEVEL", "trace, debug, info, warning, error or off (warning)", false,
     [](RunOptions& o, const std::string& v) { return set_log_level(o.log_level, v); }},
};

}  // namespace

std::span<const RunOption> run_options() { return kRunOptions; }

}  // namespace wick::cli
