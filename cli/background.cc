#include "cli/background.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <csignal>
#include <cstring>
#include <optional>

#include "base/output.h"
#include "base/write_all.h"
#include "cli/run.h"
#include "console/log_file.h"

namespace wick::cli {

namespace {

// The limit for the part of the log that the caller gets.
constexpr size_t kMaxLogBytes = 64 << 10;

// Sends the caller the one message from the new process: "started NAME" or "STATUS NAME", a
// newline, and the text for standard error.
class Reporter {
 public:
  explicit Reporter(Fd pipe) : pipe_(std::move(pipe)) {}

  // Returns false if the caller is gone.
  bool started(const control::MachineEntry& entry) {
    return write(fmt::format("started {}\n{}", entry.name(), log_of(entry)));
  }
  void failed(int status, const std::string& name, const std::string& text) {
    (void)write(fmt::format("{} {}\n{}", status, name, text));
  }

 private:
  bool write(std::string_view text) {
    // The pipe is closed on return, because the caller reads until the pipe's end.
    const Fd pipe = std::move(pipe_);
    return write_all(pipe.get(), text) == 0;
  }

  Fd pipe_;
};

std::string read_all(const Fd& pipe) {
  std::string text;
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t got = ::read(pipe.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(part.data(), static_cast<size_t>(got));
  }
}

// The caller's part of run_in_background(): waits for the Reporter's message and returns the exit
// status.
Result<int> await_start(const Fd& pipe, pid_t child) {
  const std::string report = read_all(pipe);
  const size_t end = report.find('\n');
  const std::string_view head = std::string_view(report).substr(0, end);
  const size_t space = head.find(' ');
  if (end != report.npos && space != head.npos) {
    (void)write_message(std::string_view(report).substr(end + 1));
    if (head.substr(0, space) == "started") {
      fmt::print("{} started\n", head.substr(space + 1));
      return 0;
    }
    int status = 1;
    (void)std::from_chars(head.data(), head.data() + space, status);
    return status;
  }
  // The process has ended without a message, for instance by a signal.
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return fail_errno(errno, "cannot wait for the machine");
  const int exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  report_error(
      fmt::format("the machine's process has ended before its guest ran (status {})", exit_status));
  return exit_status == 0 ? 1 : exit_status;
}

// Redirects standard input to /dev/null, and the output to the entry's log.
Result<void> leave_terminal(const control::MachineEntry& entry) {
  const Fd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd log = TRY(entry.create_file("log"));
  if (!nothing.valid() || ::dup2(nothing.get(), STDIN_FILENO) < 0 ||
      ::dup2(log.get(), STDOUT_FILENO) < 0 || ::dup2(log.get(), STDERR_FILENO) < 0)
    return fail_errno(errno, "{}: cannot redirect the output", entry.path("log"));
  set_up_log(STDERR_FILENO);
  return {};
}

// The new process's part of run_in_background(): runs the machine.
Result<int> run_as_child(const RunOptions& options, Reporter reporter) {
  constexpr int kHostFailed = 1;
  (void)::setsid();
  std::signal(SIGPIPE, SIG_IGN);
  const std::string name =
      options.machine.name.empty() ? fmt::format("wick-{}", ::getpid()) : options.machine.name;
  std::optional<Background> background;
  Result<void> ready;
  if (auto registry = control::Registry::open(); !registry) {
    ready = failure(registry);
  } else if (auto entry = registry->claim(name); !entry) {
    ready = failure(entry);
  } else {
    background.emplace(Background{*std::move(entry), {}, false, {}});
    ready = leave_terminal(background->entry);
  }
  if (!ready) {
    reporter.failed(kHostFailed, name, fmt::format("wick: {}\n", ready.error().message()));
    return kHostFailed;
  }
  background->running = [&] { return reporter.started(background->entry); };
  const Result<int> status = run(options, &*background);
  if (background->started) return status;
  // run() has removed the entry and its log file; `background->log` is a copy of the log.
  std::string text = background->log;
  if (!status) text += fmt::format("wick: {}\n", status.error().message());
  reporter.failed(status.value_or(kHostFailed), name, text);
  return status.value_or(kHostFailed);
}

}  // namespace

Result<int> run_in_background(const RunOptions& options) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0)
    return fail_errno(errno, "cannot make a pipe to the machine's process");
  Fd from_child(ends[0]);
  Fd to_caller(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "cannot start a process for the machine");
  if (child > 0) {
    to_caller.close();
    return await_start(from_child, child);
  }
  from_child.close();
  return run_as_child(options, Reporter(std::move(to_caller)));
}

std::string log_of(const control::MachineEntry& entry) {
  const Fd log(::open(entry.path("log").c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  std::string text(kMaxLogBytes, '\0');
  const ssize_t got = log.valid() ? ::read(log.get(), text.data(), text.size()) : 0;
  text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return text;
}

void move_consoles(vmm::MachineConfig& config, const control::MachineEntry& entry) {
  const std::string main_console = config.main_console();
  const auto move = [&](vmm::SerialConfig& serial, const std::string& port) {
    if (serial.kind == vmm::SerialConfig::Kind::kStdio) {
      serial.kind = vmm::SerialConfig::Kind::kUnix;
      serial.path = entry.path(port + ".sock");
    }
    if (port == main_console && serial.log_path.empty()) {
      serial.log_path = entry.path("console.log");
      serial.log_limit_bytes = console::kKeptLogBytes;
    }
  };
  for (size_t i = 0; i < config.serials.size(); ++i)
    move(config.serials[i], fmt::format("ttyS{}", i));
  for (size_t i = 0; i < config.consoles.size(); ++i)
    move(config.consoles[i], config.console_id(i));
}

}  // namespace wick::cli
