#include "cli/run.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "base/hash.h"
#include "base/output.h"
#include "boot/find_kernel.h"
#include "boot/input_file.h"
#include "cli/ending.h"
#include "cli/ending_hints.h"
#include "cli/stats.h"
#include "hostnet/host_view.h"

namespace wick::cli {

Result<void> choose_kernel(vmm::MachineConfig& config, bool initrd_auto,
                           const std::string& boot_folder) {
  const bool default_kernel = config.kernel_path.empty();
  if (default_kernel) config.kernel_path = TRY(boot::newest_kernel(boot_folder));
  if (initrd_auto) {
    TRY(boot::InputFile::open(config.kernel_path));  // report errors of the kernel first
    config.initrd_path = TRY(boot::initrd_beside(config.kernel_path));
  } else if (default_kernel && config.initrd_path.empty()) {
    // A kernel without modules may have no initramfs.
    config.initrd_path = boot::initrd_beside(config.kernel_path).value_or("");
  }

  std::vector<boot::NeededOption> needed;
  if (config.main_console().starts_with("ttyS"))
    needed.push_back({"SERIAL_8250_CONSOLE", "the console is a serial port"});
  else
    needed.push_back({"VIRTIO_CONSOLE", "the console is hvc0"});
  const auto any_disk_on = [&](vmm::DiskConfig::Device device) {
    return std::ranges::find(config.disks, device, &vmm::DiskConfig::device) != config.disks.end();
  };
  if (any_disk_on(vmm::DiskConfig::Device::kIde)) {
    needed.push_back({"ATA_PIIX", "there are drives on IDE"});
    needed.push_back({"PCI", "the IDE controller is on PCI"});
  }
  if (any_disk_on(vmm::DiskConfig::Device::kVirtio)) {
    needed.push_back({"VIRTIO_BLK", "the disks are virtio devices"});
    needed.push_back(config.on_pci()
                         ? boot::NeededOption{"VIRTIO_PCI", "virtio devices are on PCI"}
                         : boot::NeededOption{"VIRTIO_MMIO", "virtio devices are on virtio-mmio"});
    needed.push_back(config.acpi
                         ? boot::NeededOption{"ACPI", "virtio devices are found through ACPI"}
                         : boot::NeededOption{"VIRTIO_MMIO_CMDLINE_DEVICES",
                                              "virtio devices need it with --acpi off"});
  }
  if (!config.nets.empty()) needed.push_back({"VIRTIO_NET", "the network card is a virtio device"});
  for (const std::string& line :
       boot::missing_options(config.kernel_path, !config.initrd_path.empty(), needed))
    spdlog::warn("{}", line);
  return {};
}

Result<vmm::RunReport> run_to_end(vmm::Machine& machine, EventLoop& loop, Signals& signals,
                                  std::optional<std::chrono::microseconds> timeout) {
  const auto take_request = [&] {
    signalfd_siginfo info{};
    while (::read(signals.requests().get(), &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo == SIGPWR)
        machine.press_power_button();
      else
        machine.update_disk_sizes();
    }
  };
  const auto watch =
      TRY(loop.watch(signals.requests().get(), EPOLLIN, [&](uint32_t) { take_request(); }));
  const auto timer = TRY(loop.timer([&] { machine.end(vmm::Ending::kTimeout); }));
  if (timeout) timer.arm(*timeout);
  take_request();
  signals.on_end([&](int number) { machine.end(vmm::Ending::kSignal, number); });
  vmm::RunReport report = machine.run();
  signals.on_end({});
  return report;
}

void choose_addresses(vmm::MachineConfig& config, const std::string& machine_id) {
  std::string machine = config.name;
  if (machine.empty() && !config.disks.empty()) {
    std::error_code ignored;
    machine = std::filesystem::absolute(config.disks.front().path, ignored).lexically_normal();
  }
  if (machine.empty()) machine = fmt::format("{}", ::getpid());
  for (size_t i = 0; i < config.uuid.size(); i += sizeof(uint64_t)) {
    const uint64_t half = fnv1a(fmt::format("{}\n{}\nuuid {}", machine_id, machine, i));
    std::memcpy(config.uuid.data() + i, &half, sizeof(half));
  }
  // RFC 9562: version 8, for implementation-specific UUIDs.
  config.uuid[6] = static_cast<uint8_t>((config.uuid[6] & 0x0f) | 0x80);
  config.uuid[8] = static_cast<uint8_t>((config.uuid[8] & 0x3f) | 0x80);
  for (size_t i = 0; i < config.nets.size(); ++i)
    if (!config.nets[i].mac)
      config.nets[i].mac = net::derive_mac(fmt::format("{}\n{}\n{}", machine_id, machine, i));
}

std::string kernel_cache_folder(const std::optional<std::string>& option, const char* cache_home,
                                const char* home) {
  if (option) return *option;
  // A relative path in XDG_CACHE_HOME is invalid (XDG Base Directory Specification 0.8).
  if (cache_home != nullptr && cache_home[0] == '/')
    return fmt::format("{}/wick/kernels", cache_home);
  if (home != nullptr && home[0] == '/') return fmt::format("{}/.cache/wick/kernels", home);
  return {};
}

namespace {

Result<Fd> open_stats_file(const StatsForm& form) {
  if (form.path.empty()) return Fd();
  Fd fd(::open(form.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd.valid())
    return with_hint(fail_errno(errno, "{}: cannot write statistics", form.path),
                     "check file= of --stats");
  return fd;
}

Result<void> write_stats(const vmm::RunStats& stats, const StatsForm& form, const Fd& file) {
  if (form.kind == StatsForm::Kind::kOff) return {};
  const std::string text =
      form.kind == StatsForm::Kind::kJson ? stats_json(stats) : stats_table(stats);
  if (!file.valid()) return write_message(text);
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = ::write(file.get(), rest.data(), rest.size());
    if (written < 0) return fail_errno(errno, "{}: cannot write the statistics", form.path);
    rest.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

}  // namespace

Result<int> run(const RunOptions& options) {
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  const auto signals = TRY(Signals::take());  // first, so that signals can end all later phases
  vmm::MachineConfig config = options.machine;
  choose_addresses(config, net::host_machine_id());
  if (config.name.empty()) config.name = fmt::format("wick-{}", ::getpid());
  const Fd published_name = hostnet::publish_machine_name(config.name);
  config.kernel_cache =
      kernel_cache_folder(options.kernel_cache, std::getenv("XDG_CACHE_HOME"), std::getenv("HOME"));
  TRY(choose_kernel(config, options.initrd_auto));

  // Opened before the run, so that a bad path does not waste a run.
  const Fd stats_file = TRY(open_stats_file(options.stats));
  const auto loop = TRY(EventLoop::create());
  auto machine = TRY(vmm::Machine::create(config, *loop));
  spdlog::info("{}: command line: {}", config.name, machine->cmdline());

  const vmm::RunReport report = TRY(run_to_end(*machine, *loop, *signals, options.timeout));
  const std::string hint = ending_hint(report, config, machine->cmdline());
  machine.reset();  // restores the terminal before we write to it
  const auto written = write_stats(report.stats, options.stats, stats_file);
  if (!written) report_error(written.error().message());
  (void)write_message(describe(report, hint));
  // For a script, a run has failed if its statistics are missing.
  const int status = exit_status(report);
  return status == 0 && !written ? 1 : status;
}

}  // namespace wick::cli
