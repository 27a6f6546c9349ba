#include "cli/run_options.h"

#include <algorithm>
#include <charconv>

#include "cli/spec.h"

namespace wick::cli {

namespace {

using vmm::MachineConfig;

Result<std::string> parse_text(const std::string& value) { return value; }

Result<std::string> parse_path(const std::string& value) {
  if (value.empty()) return fail("needs a file name");
  return value;
}

template <control::ServiceConfig::Kind kind>
Result<control::ServiceConfig> parse_service_of(const std::string& value) {
  return control::ServiceConfig{.kind = kind, .address = TRY(parse_service(value))};
}

Result<std::string> parse_name(const std::string& value) {
  const auto unfit = [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '/'; };
  if (value.empty() || std::any_of(value.begin(), value.end(), unfit))
    return fail("a name must not be empty or contain blanks or slashes");
  return value;
}

Result<vmm::DiskConfig> parse_cdrom(const std::string& value) {
  vmm::DiskConfig cdrom;
  cdrom.path = TRY(parse_path(value));
  cdrom.device = vmm::DiskConfig::Device::kIde;
  cdrom.media = vmm::DiskConfig::Media::kCdrom;
  cdrom.read_only = true;
  return cdrom;
}

// Parses --rng. An empty path means getrandom(2); nullopt means no device.
Result<std::optional<std::string>> parse_rng(const std::string& value) {
  if (value == "off") return std::nullopt;
  if (value == "on") return "";
  return parse_path(value);
}

// Parses --vsock. vmm::check() checks which numbers a guest can have.
Result<uint32_t> parse_cid(const std::string& value) {
  const auto cid = parse_count(value);
  if (!cid) return fail("not a context identifier: give a number from 3 on");
  return *cid;
}

Result<uint16_t> parse_port(const std::string& value) {
  const bool hexadecimal = value.starts_with("0x") || value.starts_with("0X");
  const char* const start = value.data() + (hexadecimal ? 2 : 0);
  const char* const end = value.data() + value.size();
  uint16_t port = 0;
  const auto [last, error] = std::from_chars(start, end, port, hexadecimal ? 16 : 10);
  if (error != std::errc() || last != end) return fail("not an I/O port: give 0 to 0xfffc");
  return port;
}

// Parses --kernel-cache. An empty path means no cache.
Result<std::string> parse_kernel_cache(const std::string& value) {
  return value == "off" ? std::string() : TRY(parse_path(value));
}

// Parsers of words; resolve() has already checked the value against the option's form.
Result<bool> parse_on(const std::string& value) { return value == "on"; }
Result<bool> parse_reset(const std::string& value) { return value == "reset"; }
Result<BootOptions::What> parse_boot(const std::string& value) {
  using What = BootOptions::What;
  return value == "disk"    ? What::kDisk
         : value == "cdrom" ? What::kCdrom
         : value == "menu"  ? What::kMenu
                            : What::kKernel;
}
Result<MachineConfig::Transport> parse_transport(const std::string& value) {
  using Transport = MachineConfig::Transport;
  return value == "mmio" ? Transport::kMmio : Transport::kPci;
}

Result<MachineConfig::Hotplug> parse_hotplug(const std::string& value) {
  using Hotplug = MachineConfig::Hotplug;
  return value == "off" ? Hotplug::kOff : value == "all" ? Hotplug::kAll : Hotplug::kSpare;
}

template <typename T>
T& member_of(RunOptions& options, T RunOptions::*member) {
  return options.*member;
}
template <typename T>
T& member_of(RunOptions& options, T MachineConfig::*member) {
  return options.machine.*member;
}

// Sets a member to the result of `parse`.
template <auto member, auto parse>
Result<void> set(RunOptions& options, const std::string& value) {
  member_of(options, member) = TRY(parse(value));
  return {};
}

// Appends the result of `parse` to a member.
template <auto member, auto parse>
Result<void> add(RunOptions& options, const std::string& value) {
  member_of(options, member).push_back(TRY(parse(value)));
  return {};
}

using Machine = MachineConfig;
using Service = control::ServiceConfig::Kind;

constexpr RunOption kRunOptions[] = {
    {"-k,--kernel", "FILE|latest", "bzImage, vmlinux, Multiboot; latest: of /boot", false,
     [](RunOptions& o, const std::string& v) {
       if (v != "latest") return set<&Machine::kernel_path, parse_path>(o, v);
       o.boot.what = BootOptions::What::kKernel;
       return Result<void>();
     }},
    {"-i,--initrd", "FILE|auto", "initramfs (auto: beside the kernel), or modules", false,
     [](RunOptions& o, const std::string& v) {
       o.initrd_auto = v == "auto";
       return o.initrd_auto ? Result<void>() : set<&Machine::initrd_path, parse_path>(o, v);
     }},
    {"--location", "DIR|URL", "boots the installer of a distribution's install tree", false,
     set<&RunOptions::location, parse_path>},
    {"--kernel-cache", "off|DIR", "keeps unpacked kernels (~/.cache/wick/kernels)", false,
     set<&RunOptions::kernel_cache, parse_kernel_cache>},
    {"-a,--append", "TEXT", "appended to the generated command line", false,
     set<&Machine::append, parse_text>},
    {"--cmdline", "TEXT", "the whole command line; nothing is generated", false,
     set<&Machine::cmdline, parse_text>},
    {"-b,--boot", "disk|cdrom|kernel|menu", "what to boot (by what is given)", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.boot.what = TRY(parse_boot(v));
       return {};
     }},
    {"--firmware", "bios|uefi|FILE", "the firmware for disks and CDs (SeaBIOS)", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       const Spec spec = TRY(parse_spec(v, kFirmwareForm));
       o.boot.firmware = spec.value;
       if (!spec.pairs.empty()) o.boot.variables = spec.pairs.front().second;
       return {};
     }},
    {"--fw-cfg", "SPEC", "a file for firmware and guest; may repeat", true,
     add<&Machine::fw_cfg, parse_fw_cfg>},
    {"-m,--memory", "SIZE", "guest RAM with K, M or G; default unit MiB (512M)", false,
     set<&Machine::memory_bytes, parse_memory_size>},
    {"-c,--cpus", "N", "virtual CPUs (1)", false, set<&Machine::cpus, parse_cpus>},
    {"-d,--disk", "SPEC", "a disk; repeat for more", true, add<&Machine::disks, parse_disk>},
    {"--cdrom", "FILE", "an ISO in a CD-ROM drive", false, add<&Machine::disks, parse_cdrom>},
    {"-n,--net", "SPEC", "a network card; repeat for more (none)", true,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       if (const auto net = TRY(parse_net(v))) o.machine.nets.push_back(*net);
       return {};
     }},
    {"--share", "SPEC", "a folder for the guest; repeat for more (none)", true,
     add<&Machine::shares, parse_share>},
    {"-s,--serial", "SPEC", "connects ttyS0; repeat up to ttyS3 (stdio)", true,
     add<&Machine::serials, parse_serial>},
    {"--console", "SPEC", "a virtio console, hvc0; repeat for more", true,
     add<&Machine::consoles, parse_console>},
    {"--display", "SPEC", "a screen with keyboard and pointer (none)", false,
     set<&Machine::vnc, parse_display>},
    {"--rng", "on|off|FILE", "entropy for the guest, from getrandom or FILE (on)", false,
     set<&Machine::rng, parse_rng>},
    {"--vsock", "CID", "sockets to the host; CID is the guest's address (none)", false,
     set<&Machine::vsock_cid, parse_cid>},
    {"--transport", "pci|mmio", "the transport of virtio devices (pci)", false,
     set<&Machine::transport, parse_transport>},
    {"--acpi", "on|off", "describe the machine in ACPI tables (on)", false,
     set<&Machine::acpi, parse_on>},
    {"--hotplug", "spare|all|off", "PCI slots for changes at run time (spare)", false,
     set<&Machine::hotplug, parse_hotplug>},
    {"--on-reboot", "exit|reset", "a guest's reboot (exit; with firmware reset)", false,
     set<&RunOptions::reset_on_reboot, parse_reset>},
    {"--name", "NAME", "the machine's name (wick-PID)", false, set<&Machine::name, parse_name>},
    {"--detach", nullptr, "run in the background, as wick start does", false,
     set<&RunOptions::detach, parse_switch>},
    {"--qmp", "SPEC", "QMP on stdio, unix:PATH or tcp:HOST:PORT; may repeat", true,
     add<&RunOptions::services, parse_service_of<Service::kQmp>>},
    {"--monitor", "SPEC", "a monitor for people, where --qmp may be", true,
     add<&RunOptions::services, parse_service_of<Service::kMonitor>>},
    {"--gdb", "SPEC", "a server for gdb on unix:PATH or tcp:HOST:PORT", false,
     set<&RunOptions::gdb, parse_address>},
    {"--gdb-wait", nullptr, "do not start the guest before gdb does", false,
     set<&RunOptions::gdb_wait, parse_switch>},
    {"--on-panic", "SPEC", "exit, or core:FILE first writes a core (exit)", false,
     set<&RunOptions::panic_core, parse_on_panic>},
    {"--debug-exit", "PORT", "the guest ends the run by a write to this I/O port", false,
     set<&Machine::debug_exit_port, parse_port>},
    {"--timeout", "SECONDS", "end the run after this time", false,
     set<&RunOptions::timeout, parse_seconds>},
    {"--stats", "[FORM]", "print statistics of the exits: table or json", false,
     [](RunOptions& o, const std::string& v) -> Result<void> {
       o.stats = TRY(parse_stats(v.empty() ? "table" : v));  // empty for --stats without a value
       o.machine.stats = o.stats.kind != StatsForm::Kind::kOff;
       return {};
     }},
    {"--log-level", "LEVEL", "trace, debug, info, warning, error or off (warning)", false,
     set<&RunOptions::log_level, parse_text>},
};

}  // namespace

std::string RunOption::form() const {
  const std::string option = name();
  if (option == "disk") return std::string(kDiskForm);
  if (option == "net") return fmt::format("none|user|tap{}{}{}", kUserKeys, kTapKeys, kCardKeys);
  if (option == "serial") return std::string(kSerialForm);
  if (option == "console") return std::string(kConsoleForm);
  if (option == "qmp" || option == "monitor") return std::string(kServiceForm);
  if (option == "gdb") return std::string(kGdbForm);
  if (option == "display") return std::string(kDisplayForm);
  if (option == "firmware") return std::string(kFirmwareForm);
  if (option == "fw-cfg") return std::string(kFwCfgForm);
  if (option == "share") return std::string(kShareForm);
  if (option == "on-panic") return std::string(kPanicForm);
  if (option == "stats") return std::string(kStatsForm);
  return value != nullptr ? value : "";
}

std::span<const RunOption> run_options() { return kRunOptions; }

}  // namespace wick::cli
