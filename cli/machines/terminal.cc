// The commands console, monitor and logs.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <deque>
#include <nlohmann/json.hpp>
#include <span>

#include "base/output.h"
#include "base/printable.h"
#include "base/unix_socket.h"
#include "cli/attach.h"
#include "cli/machines/commands.h"
#include "cli/machines/machine.h"
#include "console/log_file.h"
#include "control/hmp.h"

namespace wick::cli::machines {

namespace {

using control::MachineView;

// Prints a guest's output. On a terminal, control characters are escaped.
void print_output(std::string_view text, bool on_terminal) {
  if (!on_terminal) {
    (void)std::fwrite(text.data(), 1, text.size(), stdout);
    return;
  }
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    fmt::print("{}{}", printable(line, true), end == text.npos ? "" : "\n");
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
}

bool same_file(const Fd& one, const Fd& other) {
  struct stat a {};
  struct stat b {};
  return ::fstat(one.get(), &a) == 0 && ::fstat(other.get(), &b) == 0 && a.st_ino == b.st_ino &&
         a.st_dev == b.st_dev;
}

// The log of a machine's console. A log that wick itself keeps has a limit: wick renames it to
// console.log.1, and begins a new one (console/log_file.h).
class ConsoleLog {
 public:
  static Result<ConsoleLog> open(const MachineView& machine) {
    const auto record = machine.record();
    const std::string path = record ? record->console_log : machine.path(kFile);
    if (path.empty())
      return with_hint(fail("{}: this machine has no log of its console", machine.name()),
                       "give its console log=FILE, or start it with wick start");
    ConsoleLog log(machine, path == machine.path(kFile));
    if (log.limited_) {
      TRY(log.open_next());
      if (log.files_.empty()) log.files_.push_back(TRY(machine.open_file(kFile)));
      return log;
    }
    Fd file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!file.valid()) return fail_errno(errno, "{}: cannot open the log of the console", path);
    log.files_.push_back(std::move(file));
    return log;
  }

  // Reads the next part of the log. Returns 0 if there is no more at the moment.
  Result<size_t> read(std::span<char> to) {
    for (;;) {
      // `complete` is computed before the read: wick writes nothing to a file after renaming it, so
      // if `complete` is true, an empty read means the end of this file.
      const bool complete = files_.size() > 1 || (limited_ && TRY(was_renamed()));
      ssize_t got = -1;
      do {
        got = ::read(files_.front().get(), to.data(), to.size());
      } while (got < 0 && errno == EINTR);
      if (got < 0 && errno != EAGAIN)
        return fail_errno(errno, "{}: cannot read the log", machine_.name());
      if (got > 0) return static_cast<size_t>(got);
      if (!complete) return 0;
      if (files_.size() == 1) TRY(open_next());
      // Without a next file the machine's entry is gone.
      if (files_.size() == 1) return 0;
      files_.pop_front();
    }
  }

 private:
  static constexpr const char* kFile = "console.log";

  ConsoleLog(const MachineView& machine, bool limited) : machine_(machine), limited_(limited) {}

  // Opens a file of the entry. Returns an invalid descriptor if there is no such file.
  Result<Fd> find(const char* name) const {
    auto file = machine_.open_file(name);
    if (file) return file;
    if (file.error().code == ENOENT) return Fd();
    return file;
  }

  Result<bool> was_renamed() const {
    const Fd current = TRY(find(kFile));
    return current.valid() && !same_file(current, files_.back());
  }

  // Adds the files that follow the last file in `files_`.
  Result<void> open_next() {
    constexpr int kMaxTries = 100;
    Fd current;
    Fd older;
    for (int tries = 0; tries < kMaxTries; ++tries) {
      current = TRY(find(kFile));
      older = TRY(find(console::older_log(kFile).c_str()));
      // Tries again if wick is just renaming the log. The tries are limited, because wick may have
      // been killed while renaming.
      if (!older.valid() || (current.valid() && !same_file(current, older))) break;
    }
    const auto comes_next = [&](const Fd& file) {
      return file.valid() && (files_.empty() || !same_file(file, files_.back()));
    };
    if (comes_next(older) && (comes_next(current) || files_.empty()))
      files_.push_back(std::move(older));
    if (comes_next(current)) files_.push_back(std::move(current));
    return {};
  }

  const MachineView& machine_;
  bool limited_;
  // The files of the log, in the order of their content. The last file stays open, so that no other
  // file gets its inode number.
  std::deque<Fd> files_;
};

// Copies lines from the terminal to the monitor, and its answers back, until either side ends.
Result<void> talk(const Fd& monitor) {
  bool input_open = true;
  std::array<char, 4096> part;
  for (;;) {
    std::array<pollfd, 2> ends = {
        {{.fd = monitor.get(), .events = POLLIN, .revents = 0},
         {.fd = input_open ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0}}};
    if (::poll(ends.data(), ends.size(), -1) < 0) continue;
    if (ends[0].revents != 0) {
      const ssize_t got = ::recv(monitor.get(), part.data(), part.size(), 0);
      if (got <= 0) return {};
      (void)std::fwrite(part.data(), 1, static_cast<size_t>(got), stdout);
      (void)std::fflush(stdout);
    }
    if (ends[1].revents == 0) continue;
    const ssize_t got = ::read(STDIN_FILENO, part.data(), part.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) {
      // The monitor answers the commands that it has received, and then closes the connection.
      input_open = false;
      (void)::shutdown(monitor.get(), SHUT_WR);
      continue;
    }
    for (std::string_view rest(part.data(), static_cast<size_t>(got)); !rest.empty();) {
      const ssize_t sent = ::send(monitor.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return {};
      rest.remove_prefix(static_cast<size_t>(sent));
    }
  }
}

}  // namespace

Result<int> execute(const Console& command) {
  const MachineView machine = TRY(find_running(command.name));
  const auto record = machine.record();
  if (!record)
    return with_hint(fail("{}: the machine is still being started", command.name), "try again");
  std::string ports;
  for (const auto& [port, socket] : record->consoles) {
    if (port == command.port && !socket.empty()) return attach(socket);
    if (!socket.empty()) ports += (ports.empty() ? "" : ", ") + port;
  }
  return with_hint(fail("{}: {} has no socket to connect to", command.name, command.port),
                   ports.empty() ? "only a port with -s unix:PATH, and of wick start, has one"
                                 : fmt::format("those that have one: {}", ports));
}

Result<int> execute(const Monitor& command) {
  const MachineView machine = TRY(find_running(command.name));
  if (!command.command.empty()) {
    auto client = TRY(connect(machine));
    const auto answer =
        TRY(client.execute("human-monitor-command", {{"command-line", command.command}}));
    if (!answer.is_string()) return fail("{}: the monitor gave no text", command.name);
    std::string text = answer.get<std::string>();
    if (!text.empty() && !text.ends_with('\n')) text += '\n';
    print_output(text, ::isatty(STDOUT_FILENO) == 1);
    return control::is_monitor_error(text) ? 1 : 0;
  }
  const Fd monitor = TRY(connect_unix(machine.path("monitor.sock")));
  TRY(talk(monitor));
  return 0;
}

Result<int> execute(const Logs& command) {
  constexpr std::chrono::milliseconds kPeriod{100};
  const MachineView machine = TRY(find_machine(command.name));
  ConsoleLog log = TRY(ConsoleLog::open(machine));
  const bool on_terminal = ::isatty(STDOUT_FILENO) == 1;
  std::array<char, 65536> part;
  for (;;) {
    // `live` is computed before the read, so that all output from before the machine's end is
    // printed.
    const bool live = command.follow && machine.state() == MachineView::State::kLive;
    while (const size_t got = TRY(log.read(part))) print_output({part.data(), got}, on_terminal);
    if (!live) return 0;
    (void)std::fflush(stdout);
    if (std::ferror(stdout) != 0) return 1;
    (void)machine.wait(kPeriod);
  }
}

}  // namespace wick::cli::machines
