#include "cli/exec_task.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/output.h"
#include "base/printable.h"
#include "base/write_all.h"
#include "cli/exec_kernel.h"
#include "guest/modules.h"
#include "guest/protocol.h"

namespace wick::cli {

namespace {

constexpr int kHostFailed = 1;

// Shows only warnings and errors. All messages of a boot would take longer on a serial port than
// the boot itself.
constexpr const char* kFewMessages = "loglevel=5";

std::vector<std::string> callers_environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable)
    variables.emplace_back(*variable);
  return variables;
}

// Puts `first` before the user's parameters, so that these override it.
void prepend(std::string& text, const std::string& first) {
  text = text.empty() ? first : first + ' ' + text;
}

std::string signal_text(uint32_t number) {
  const char* const name = ::sigabbrev_np(static_cast<int>(number));
  return fmt::format("signal {} (SIG{})", number, name != nullptr ? name : "?");
}

std::string last_line(const std::string& text) {
  const std::string_view whole = std::string_view(text).substr(0, text.find_last_not_of('\n') + 1);
  return std::string(whole.substr(whole.rfind('\n') + 1));
}

}  // namespace

RunOutcome exec_outcome(const guest::CommandEnd* end, const vmm::RunReport& report,
                        RunOutcome machine_outcome, std::string& text) {
  using Kind = guest::CommandEnd::Kind;
  // When the command ends, wick ends the machine with kQuit. Any other ending means that the
  // machine ended before the command.
  if (end == nullptr || report.ending != vmm::Ending::kQuit) {
    if (machine_outcome.status != 0) return machine_outcome;
    machine_outcome.status = kHostFailed;
    machine_outcome.reason += " before the command ended";
    const std::string last = last_line(text);
    text.resize(text.size() - std::min(text.size(), last.size() + 1));
    for (const std::string& line : report.console_lines)
      text += fmt::format("  {}\n", printable(line, true));
    text += fmt::format("wick: {}\n", machine_outcome.reason);
    return machine_outcome;
  }
  text.clear();
  switch (end->kind) {
    case Kind::kExited:
      // For a script, a command has failed if a part of its output is missing.
      if (end->status == 0 && end->output_error != 0) {
        machine_outcome = {kHostFailed,
                           fmt::format("the command succeeded, but not all of its output could be "
                                       "written: {}; check where it goes",
                                       std::strerror(end->output_error))};
        break;
      }
      if (end->exit.signal == 0)
        return {end->status, fmt::format("the command exited with status {}", end->status)};
      machine_outcome = {end->status, "the command was killed by " + signal_text(end->exit.signal)};
      break;
    case Kind::kNotStarted:
      machine_outcome = {end->status, printable(end->message)};
      break;
    case Kind::kFailed:
      machine_outcome = {kHostFailed, "the guest's init failed: " + printable(end->message)};
      break;
  }
  text = fmt::format("wick: {}\n", machine_outcome.reason);
  return machine_outcome;
}

Result<void> ExecTask::prepare(vmm::MachineConfig& config, EventLoop& loop) {
  loop_ = &loop;
  if (!options_.json_path.empty()) {
    json_ = Fd(::open(options_.json_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!json_.valid())
      return with_hint(fail_errno(errno, "{}: cannot be written", options_.json_path),
                       "check --json");
  }
  const ExecKernel kernel = TRY(find_exec_kernel(config.kernel_path, options_.modules));
  kernel_ = config.kernel_path = kernel.path;
  has_modules_ = !kernel.modules.empty();
  on_terminal_ = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
  const ExecGuest guest = TRY(describe_guest(config, kernel.modules));
  command_ = guest.command;
  initramfs_ = TRY(make_exec_initramfs(guest, config.initrd_path));
  config.initrd_path = fmt::format("/proc/self/fd/{}", initramfs_.get());
  const std::string init = std::string("rdinit=") + kExecInit;
  if (config.cmdline)
    prepend(*config.cmdline, init);
  else
    prepend(config.append, spdlog::default_logger()->level() <= spdlog::level::info
                               ? init
                               : fmt::format("{} {}", kFewMessages, init));
  TRY(open_session(loop));
  config.ports.push_back({.name = WICK_PORT_NAME, .backend = session_.get()});
  return vmm::check(config);
}

Result<ExecGuest> ExecTask::describe_guest(vmm::MachineConfig& config,
                                           const std::string& modules_folder) {
  std::error_code none;
  ExecGuest guest;
  guest.hostname = config.name;
  guest.user = TRY(find_exec_user(options_.user));
  guest.environment =
      exec_environment(callers_environment(), options_.environment,
                       options_.user.empty() ? std::nullopt : std::optional(guest.user));
  guest.command = options_.command;
  // The guest's root contains the script; exec_options.cc has checked that.
  for (const std::string& script : options_.scripts)
    guest.command.insert(
        guest.command.begin(),
        {"/bin/sh", options_.root == "/" ? script : script.substr(options_.root.size())});
  if (guest.command.empty()) {
    const char* const shell = options_.root == "none" ? nullptr : std::getenv("SHELL");
    guest.command = {shell != nullptr && *shell == '/' ? shell : "/bin/sh"};
  }
  // If the root is the host's, a relative path starts from wick's folder, as on the host.
  guest.pwd =
      options_.root != "/"
          ? options_.pwd
          : (std::filesystem::current_path(none) / options_.pwd).lexically_normal().string();
  if (guest.pwd.empty()) guest.pwd = "/";
  if (on_terminal_) {
    guest.terminal = ExecTerminal::size_of(STDIN_FILENO);
    guest.separate_stderr = ::isatty(STDERR_FILENO) == 0;
  }
  guest.tmpfs = options_.tmpfs;
  TRY(add_folders(config, guest));
  if (modules_folder.empty()) return guest;
  std::vector<std::string_view> modules = modules_for(config);
  if (!guest.root_tag.empty()) modules.emplace_back("overlay");
  const auto known = TRY(guest::Modules::open(modules_folder));
  guest.modules = TRY(known.resolve(modules));
  return guest;
}

// Adds the shares. In the guest, files of wick's user belong to the user who runs the command. But
// if root runs it as another user, the files keep their owners, so that this user has his own
// rights and not root's.
Result<void> ExecTask::add_folders(vmm::MachineConfig& config, ExecGuest& guest) {
  const auto files = ::geteuid() == 0 && guest.user.uid != 0 ? share::Security::kPassthrough
                                                             : share::Security::kSquash;
  const auto share = [&](const std::string& path, std::string tag, bool read_only,
                         share::Security security) {
    config.shares.push_back({.path = path,
                             .tag = tag,
                             .read_only = read_only,
                             .security = security,
                             .squash_uid = guest.user.uid,
                             .squash_gid = guest.user.gid});
    return tag;
  };
  if (options_.root != "none") guest.root_tag = share(options_.root, "wick.root", true, files);
  if (!options_.overlay.empty()) TRY(lock_overlay());
  // An overlay stores removed files as device nodes, which wick's user may not create; kMapped
  // stores such a node as a regular file with an attribute.
  if (!options_.overlay.empty())
    guest.overlay_tag = share(options_.overlay, "wick.overlay", false, share::Security::kMapped);
  for (const ExecOptions::Folder& folder : options_.folders)
    guest.shares.push_back({.tag = share(folder.host, fmt::format("wick.{}", guest.shares.size()),
                                         folder.read_only, files),
                            .target = folder.guest,
                            .read_only = folder.read_only});
  for (const ExecOptions::Copy& copy : options_.copies) {
    copies_.push_back(TRY(ExecCopy::create(copy)));
    const auto source = (std::filesystem::path(guest.pwd) / copy.guest).lexically_normal();
    guest.copies.emplace_back(
        source, share(copies_.back().folder(), fmt::format("wick.copy.{}", guest.copies.size()),
                      false, share::Security::kSquash));
  }
  return {};
}

// Two guests that wrote to one overlay would not see each other's changes.
Result<void> ExecTask::lock_overlay() {
  const std::string& path = options_.overlay;
  overlay_lock_ = Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!overlay_lock_.valid())
    return with_hint(fail_errno(errno, "{}: cannot open", path), "check --overlay");
  if (::flock(overlay_lock_.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK)
    return with_hint(fail_errno(errno, "{}: cannot lock this folder", path),
                     "give a folder on another file system to --overlay");
  return with_hint(fail_errno(errno, "{}: another run uses this folder", path),
                   "wait for its end, or give another folder to --overlay");
}

Result<void> ExecTask::open_session(EventLoop& loop) {
  guest::Session::Events events;
  events.started = [this] { started_ = Clock::now(); };
  events.ended = [this] {
    if (machine_ != nullptr) machine_->end(vmm::Ending::kQuit);
  };
  if (on_terminal_)
    events.typed = [this](guest::Payload typed) {
      if (terminal_) terminal_->type(typed);
    };
  session_ = TRY(guest::Session::create(loop,
                                        {.in = Stream::borrow(STDIN_FILENO, O_RDONLY),
                                         .out = Stream::borrow(STDOUT_FILENO, O_WRONLY),
                                         .err = Stream::borrow(STDERR_FILENO, O_WRONLY)},
                                        std::move(events)));
  return {};
}

Result<void> ExecTask::built(vmm::Machine& machine) {
  machine_ = &machine;
  if (!on_terminal_) return {};
  terminal_ =
      TRY(ExecTerminal::enter(*loop_, *session_, STDIN_FILENO,
                              {.quit = [this] { machine_->end(vmm::Ending::kQuit); },
                               .power_button = [this] { machine_->press_power_button(); }}));
  return {};
}

RunOutcome ExecTask::outcome(const vmm::RunReport& report, RunOutcome machine_outcome,
                             std::string& text) {
  ended_ = Clock::now();
  terminal_.reset();
  session_->disconnect();
  machine_ = nullptr;
  const auto& end = session_->end();
  // The guest's init cannot open its port.
  if (started_ == Clock::time_point() && report.ending == vmm::Ending::kPanicked && !has_modules_ &&
      options_.modules != "none")
    text.insert(text.size() - std::min(text.size(), last_line(text).size() + 1),
                "wick: hint: this host has no modules for this kernel; if virtio_pci and "
                "virtio_console are modules, give their folder by --modules\n");
  RunOutcome outcome =
      exec_outcome(end ? &*end : nullptr, report, std::move(machine_outcome), text);
  const bool by_itself =
      end && report.ending == vmm::Ending::kQuit && end->kind != guest::CommandEnd::Kind::kFailed;
  if (error_ != nullptr && !by_itself) *error_ = outcome.reason;
  if (end) publish_copies(*end, outcome, text);
  write_json(report, outcome);
  return outcome;
}

// Moves the copies to their targets, also after a command that failed, when they are most useful. A
// run without one of its results is not a success.
void ExecTask::publish_copies(const guest::CommandEnd& end, RunOutcome& outcome,
                              std::string& text) const {
  std::string problems;
  for (const std::string& error : end.copy_errors)
    problems += fmt::format("wick: --copy-out {}\n", printable(error));
  for (size_t i = 0; i < copies_.size(); ++i) {
    const ExecCopy& copy = copies_[i];
    if (!copy.is_there()) {
      // If the guest gave a reason, it is already in `problems`.
      if (end.copy_errors.empty())
        problems += fmt::format("wick: --copy-out {}: the guest has copied nothing\n",
                                printable(options_.copies[i].guest));
      continue;
    }
    if (const auto published = copy.publish(); !published)
      problems += fmt::format("wick: {}\n", published.error().message());
  }
  if (problems.empty()) return;
  text = problems + text;
  if (outcome.status == 0) outcome = {kHostFailed, "not all results could be copied"};
}

void ExecTask::write_json(const vmm::RunReport& report, RunOutcome& outcome) const {
  if (!json_.valid()) return;
  const auto seconds = [](Clock::duration time) {
    return std::chrono::duration<double>(time).count();
  };
  const bool ran = started_ != Clock::time_point();
  const auto& end = session_->end();
  nlohmann::ordered_json json = {{"command", command_},
                                 {"kernel", kernel_},
                                 {"status", outcome.status},
                                 {"reason", outcome.reason},
                                 {"started", ran}};
  json["times"] = {{"total_s", seconds(ended_ - created_)}};
  if (ran) {
    json["times"]["boot_s"] = seconds(started_ - created_);
    json["times"]["command_s"] = seconds(ended_ - started_);
  }
  const bool exited =
      end && end->kind == guest::CommandEnd::Kind::kExited && report.ending == vmm::Ending::kQuit;
  if (exited) {
    constexpr double kPerSecond = 1e6;
    json["signal"] = end->exit.signal;
    json["usage"] = {{"user_s", static_cast<double>(end->exit.user_us) / kPerSecond},
                     {"system_s", static_cast<double>(end->exit.system_us) / kPerSecond},
                     {"max_resident_kib", end->exit.max_resident_kib}};
  }
  json["console"] = report.console_lines;
  const std::string text =
      json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
  if (const int error = write_all(json_.get(), text); error != 0) {
    report_error(
        fmt::format("{}: cannot be written: {}", options_.json_path, std::strerror(error)));
    if (outcome.status == 0) outcome.status = kHostFailed;
  }
}

}  // namespace wick::cli
