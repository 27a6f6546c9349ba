#include "cli/run.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/hash.h"
#include "boot/find_kernel.h"
#include "boot/input_file.h"
#include "cli/ending.h"
#include "cli/ending_hints.h"
#include "cli/net_host.h"
#include "cli/stats.h"

namespace wick::cli {

Result<Fd> take_signals() {
  sigset_t taken;
  sigemptyset(&taken);
  for (const int number : {SIGINT, SIGTERM, SIGQUIT, SIGPWR, SIGUSR1}) sigaddset(&taken, number);
  // Under nohup a hangup stays ignored.
  struct sigaction hangup {};
  (void)::sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&taken, SIGHUP);
  // A client that goes away is an error of write(), not the end.
  std::signal(SIGPIPE, SIG_IGN);

  if (const int code = ::pthread_sigmask(SIG_BLOCK, &taken, nullptr); code != 0)
    return fail_errno(code, "signals: cannot block");
  Fd fd(::signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return fail_errno(errno, "signalfd: cannot create");
  return fd;
}

Result<void> choose_kernel(MachineConfig& config, bool initrd_auto,
                           const std::string& boot_folder) {
  const bool default_kernel = config.kernel_path.empty();
  if (default_kernel) config.kernel_path = TRY(boot::newest_kernel(boot_folder));
  if (initrd_auto) {
    TRY(boot::InputFile::open(config.kernel_path));  // its error comes first
    config.initrd_path = TRY(boot::initrd_beside(config.kernel_path));
  } else if (default_kernel && config.initrd_path.empty()) {
    // A kernel without modules may well have none.
    config.initrd_path = boot::initrd_beside(config.kernel_path).value_or("");
  }

  std::vector<boot::NeededOption> needed;
  if (config.main_console().starts_with("ttyS"))
    needed.push_back({"SERIAL_8250_CONSOLE", "the console is a serial port"});
  else
    needed.push_back({"VIRTIO_CONSOLE", "the console is hvc0"});
  const auto any_disk_on = [&](DiskConfig::Device device) {
    return std::ranges::find(config.disks, device, &DiskConfig::device) != config.disks.end();
  };
  if (any_disk_on(DiskConfig::Device::kIde)) {
    needed.push_back({"ATA_PIIX", "there are drives on IDE"});
    needed.push_back({"PCI", "the IDE controller is on PCI"});
  }
  if (any_disk_on(DiskConfig::Device::kVirtio)) {
    needed.push_back({"VIRTIO_BLK", "the disks are virtio devices"});
    needed.push_back(config.on_pci()
                         ? boot::NeededOption{"VIRTIO_PCI", "virtio devices are on PCI"}
                         : boot::NeededOption{"VIRTIO_MMIO", "virtio devices are on virtio-mmio"});
    needed.push_back(config.acpi
                         ? boot::NeededOption{"ACPI", "virtio devices are found through ACPI"}
                         : boot::NeededOption{"VIRTIO_MMIO_CMDLINE_DEVICES",
                                              "with --acpi off virtio devices are found by it"});
  }
  if (!config.nets.empty()) needed.push_back({"VIRTIO_NET", "the network card is a virtio device"});
  for (const std::string& line :
       boot::missing_options(config.kernel_path, !config.initrd_path.empty(), needed))
    spdlog::warn("{}", line);
  return {};
}

Result<RunReport> run_to_end(Machine& machine, EventLoop& loop, const Fd& signals,
                             std::optional<std::chrono::microseconds> timeout) {
  const auto take_signal = [&] {
    signalfd_siginfo info{};
    while (::read(signals.get(), &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo == SIGPWR)
        machine.press_power_button();
      else if (info.ssi_signo == SIGUSR1)
        machine.update_disk_sizes();
      else
        machine.end(Ending::kSignal, static_cast<int>(info.ssi_signo));
    }
  };
  const auto watch = TRY(loop.watch(signals.get(), EPOLLIN, [&](uint32_t) { take_signal(); }));
  const auto timer = TRY(loop.timer([&] { machine.end(Ending::kTimeout); }));
  if (timeout) timer.arm(*timeout);
  take_signal();
  return machine.run();
}

void choose_addresses(MachineConfig& config, const std::string& machine_id) {
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
  // RFC 9562: version 8, made in a way of one's own.
  config.uuid[6] = static_cast<uint8_t>((config.uuid[6] & 0x0f) | 0x80);
  config.uuid[8] = static_cast<uint8_t>((config.uuid[8] & 0x3f) | 0x80);
  for (size_t i = 0; i < config.nets.size(); ++i)
    if (!config.nets[i].mac)
      config.nets[i].mac = net::derive_mac(fmt::format("{}\n{}\n{}", machine_id, machine, i));
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

void write_stats(const RunStats& stats, const StatsForm& form, const Fd& file) {
  if (form.kind == StatsForm::Kind::kOff) return;
  const std::string text =
      form.kind == StatsForm::Kind::kJson ? stats_json(stats) : stats_table(stats);
  if (!file.valid())
    std::fputs(text.c_str(), stderr);
  else if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    spdlog::error("{}: not all of the statistics could be written", form.path);
}

}  // namespace

Result<int> run(const RunOptions& options) {
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  MachineConfig config = options.machine;
  choose_addresses(config, net::host_machine_id());
  if (config.name.empty()) config.name = fmt::format("wick-{}", ::getpid());
  const Fd published_name = publish_machine_name(config.name);
  TRY(choose_kernel(config, options.initrd_auto));

  // Now, so that a run is not lost on a file that cannot be written.
  const Fd stats_file = TRY(open_stats_file(options.stats));
  const Fd signals = TRY(take_signals());
  const auto loop = TRY(EventLoop::create());
  auto machine = TRY(Machine::create(config, *loop));
  spdlog::info("{}: command line: {}", config.name, machine->cmdline());

  const RunReport report = TRY(run_to_end(*machine, *loop, signals, options.timeout));
  const std::string hint = ending_hint(report, config, machine->cmdline());
  machine.reset();  // gives the terminal back before we write to it
  write_stats(report.stats, options.stats, stats_file);
  std::fputs(describe(report, hint).c_str(), stderr);
  return exit_status(report);
}

}  // namespace wick::cli
