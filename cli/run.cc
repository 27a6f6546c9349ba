#include "cli/run.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string_view>

#include "base/cache_folder.h"
#include "base/hash.h"
#include "base/output.h"
#include "cli/background.h"
#include "cli/boot_choice.h"
#include "cli/ending.h"
#include "cli/ending_hints.h"
#include "cli/services.h"
#include "cli/stats.h"
#include "control/names.h"
#include "control/services.h"
#include "control/start_ticks.h"
#include "hostnet/host_view.h"

namespace wick::cli {

Result<vmm::RunReport> run_to_end(vmm::Machine& machine, EventLoop& loop, Signals& signals,
                                  std::optional<std::chrono::microseconds> timeout, RunTask* task) {
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
  // A function that is posted as the run ends is executed only when the loop is destroyed, and the
  // machine is gone by then. So the function checks `running`.
  const auto running = std::make_shared<bool>(true);
  signals.on_end([&](int number) {
    if (task == nullptr) return machine.end(vmm::Ending::kSignal, number);
    loop.post([&machine, task, number, running] {
      if (*running && !task->take_signal(number)) machine.end(vmm::Ending::kSignal, number);
    });
  });
  vmm::RunReport report = machine.run();
  signals.on_end({});
  *running = false;
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

// Returns the registry's entry for a machine in the foreground. Such a machine also runs without an
// entry: in a container without a folder for it, or beside another machine of the same name.
std::optional<control::MachineEntry> claim_if_possible(const std::string& name) {
  const auto registry = control::Registry::open();
  auto entry = registry ? registry->claim(name) : std::unexpected(registry.error());
  if (entry) return *std::move(entry);
  spdlog::debug("this machine cannot be reached by its name: {}", entry.error().message());
  return std::nullopt;
}

control::MachineRecord record_of(const vmm::MachineConfig& config, const RunOptions& options) {
  control::MachineRecord record{.name = config.name,
                                .pid = ::getpid(),
                                .start_ticks = control::start_ticks(::getpid()).value_or(0),
                                .since = ::time(nullptr),
                                .background = options.detach,
                                .uuid = control::uuid_text(config.uuid),
                                .kernel = config.kernel_path,
                                .memory_bytes = config.memory_bytes,
                                .cpus = config.cpus,
                                .console_log = {},
                                .consoles = {},
                                .folder = {},
                                .arguments = options.arguments};
  std::error_code ignored;
  record.folder = std::filesystem::current_path(ignored);
  const auto absolute = [&](const std::string& path) {
    return path.empty() || path.front() == '/' ? path : record.folder + '/' + path;
  };
  const std::string main_console = config.main_console();
  const auto add = [&](const vmm::SerialConfig& serial, std::string port) {
    if (port == main_console) record.console_log = absolute(serial.log_path);
    record.consoles.push_back({std::move(port), absolute(serial.path)});
    if (serial.kind != vmm::SerialConfig::Kind::kUnix) record.consoles.back().socket.clear();
  };
  for (size_t i = 0; i < config.serials.size(); ++i)
    add(config.serials[i], fmt::format("ttyS{}", i));
  for (size_t i = 0; i < config.consoles.size(); ++i) add(config.consoles[i], config.console_id(i));
  return record;
}

// Writes a core of a guest whose kernel has panicked, for --on-panic.
Result<void> write_panic_core(vmm::Machine& machine, const std::string& path) {
  Fd file = TRY(debug::open_core_file(path));
  TRY(debug::write_core(machine, {.file = std::move(file), .name = path}));
  spdlog::info("{}: the core of the guest", path);
  return {};
}

// Returns the last line of `description`, without "wick: ".
std::string reason_of(std::string_view description) {
  constexpr std::string_view kPrefix = "wick: ";
  if (description.ends_with('\n')) description.remove_suffix(1);
  description.remove_prefix(description.rfind('\n') + 1);
  if (description.starts_with(kPrefix)) description.remove_prefix(kPrefix.size());
  return std::string(description);
}

// Builds the machine and runs it to its end. The pointers may be nullptr.
Result<RunOutcome> build_and_run(vmm::MachineConfig config, const RunOptions& options,
                                 Signals& signals, const control::MachineEntry* entry,
                                 Background* background, std::unique_ptr<RunTask> given_task) {
  const Fd published_name = hostnet::publish_machine_name(config.name);
  config.kernel_cache =
      options.kernel_cache
          ? *options.kernel_cache
          : cache_folder_path("kernels", std::getenv("XDG_CACHE_HOME"), std::getenv("HOME"));
  const auto loop = TRY(EventLoop::create());
  const auto task = std::move(given_task);  // destroyed before the loop that it watches
  if (task != nullptr) TRY(task->prepare(config, *loop));
  TRY(choose_boot(config, options));
  if (background != nullptr) move_consoles(config, *entry);
  config.start_paused = options.gdb_wait;
  // With gdb, the kernel runs at the addresses of its vmlinux.
  config.kaslr = !options.gdb;

  // The file is opened before the run, so that a bad path does not waste a run.
  const Fd stats_file = TRY(open_stats_file(options.stats));
  auto machine = TRY(vmm::Machine::create(config, *loop));
  spdlog::info("{}: command line: {}", config.name, machine->cmdline());
  auto services = TRY(RunServices::start(*loop, *machine, options, entry));
  if (entry != nullptr) {
    control::MachineRecord record = record_of(config, options);
    record.services = services->listed();
    TRY(entry->publish(record));
  }
  if (background != nullptr) {
    loop->post([&] {
      background->started = background->running();
      if (!background->started) machine->end(vmm::Ending::kSignal, SIGINT);
    });
  }

  if (task != nullptr) TRY(task->built(*machine));

  const vmm::RunReport report =
      TRY(run_to_end(*machine, *loop, signals, options.timeout, task.get()));
  const std::string hint = ending_hint(report, config, machine->cmdline());
  services.reset();
  Result<void> core;
  if (report.ending == vmm::Ending::kPanicked && !options.panic_core.empty())
    core = write_panic_core(*machine, options.panic_core);
  std::string description = describe(report, hint);
  RunOutcome outcome{exit_status(report), reason_of(description)};
  if (task != nullptr) outcome = task->outcome(report, std::move(outcome), description);
  machine.reset();  // restores the terminal before the text is written to it
  const auto written = write_stats(report.stats, options.stats, stats_file);
  for (const auto& done : {written, core})
    if (!done) report_error(done.error().message());
  (void)write_message(description);
  // For a script, a run has failed if its statistics are missing.
  if (outcome.status == 0 && !written) outcome.status = 1;
  return outcome;
}

}  // namespace

Result<int> run(const RunOptions& options, Background* background, std::unique_ptr<RunTask> task) {
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  // The signals are taken first, so that a signal can end every later phase.
  const auto signals = TRY(Signals::take());
  vmm::MachineConfig config = options.machine;
  choose_addresses(config, net::host_machine_id());
  if (config.name.empty()) config.name = fmt::format("wick-{}", ::getpid());

  const std::optional<control::MachineEntry> own =
      background == nullptr ? claim_if_possible(config.name) : std::nullopt;
  const control::MachineEntry* const entry = background ? &background->entry
                                             : own      ? &*own
                                                        : nullptr;
  // The caller of a run in the foreground gets its exit status, so the entry is removed; only
  // processes that already wait for the machine get the ending. The same applies to a run in the
  // background that could not start.
  const auto record_ending = [&](int status, const std::string& reason) {
    if (entry == nullptr) return;
    if (background == nullptr) return entry->remove(status, reason);
    if (!background->started) {
      background->log = log_of(*entry);
      return entry->remove(status, reason);
    }
    if (const auto recorded = entry->finish(status, reason); !recorded)
      report_error(recorded.error().message());
  };
  signals->on_exit([&](int status) {
    record_ending(status, fmt::format("ended by signal {}, at once", status - 128));
  });
  auto outcome =
      build_and_run(std::move(config), options, *signals, entry, background, std::move(task));
  signals->on_exit({});
  if (!outcome) {
    record_ending(1, outcome.error().message());
    return failure(outcome);
  }
  record_ending(outcome->status, outcome->reason);
  return outcome->status;
}

}  // namespace wick::cli
