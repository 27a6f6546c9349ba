#include "cli/exec_repeat.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <map>
#include <optional>

#include "base/fd.h"
#include "base/output.h"
#include "base/printable.h"
#include "base/write_all.h"

namespace wick::cli {

namespace {

using Clock = std::chrono::steady_clock;

// Fits into a pipe that nobody reads yet.
constexpr size_t kMaxErrorBytes = 1024;
constexpr int kEndings[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP};

int exit_status_of(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

class Runs {
 public:
  Runs(unsigned count, unsigned jobs, const OneRun& run)
      : count_(count), jobs_(std::max(jobs, 1u)), run_(run) {
    sigemptyset(&handled_);
    sigaddset(&handled_, SIGCHLD);
    for (const int signal : kEndings) sigaddset(&handled_, signal);
    (void)::pthread_sigmask(SIG_BLOCK, &handled_, &before_);
  }
  ~Runs() { (void)::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  Result<std::vector<RepeatedRun>> all() {
    while (!running_.empty() || (next_ <= count_ && !ending_)) {
      while (running_.size() < jobs_ && next_ <= count_ && !ending_) {
        if (const auto started = start(); !started) {
          pass_on(SIGTERM);
          ending_ = true;
          failure_ = started.error();
        }
      }
      if (!running_.empty()) wait();
    }
    if (failure_) report_error(failure_->message());
    std::ranges::sort(done_, {}, &RepeatedRun::number);
    return std::move(done_);
  }

 private:
  struct Started {
    unsigned number;
    Clock::time_point at;
    Fd error;  // a pipe with RepeatedRun::error
  };

  Result<void> start() {
    std::array<int, 2> ends;
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
      return fail_errno(errno, "cannot make a pipe for another run");
    Fd reader(ends[0]);
    const Fd writer(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "cannot start another run");
    if (child == 0) {
      (void)::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
      std::string error;
      const int status = run_(next_, error);
      (void)write_all(writer.get(), error.substr(0, kMaxErrorBytes));
      std::exit(status);
    }
    running_[child] = {next_++, Clock::now(), std::move(reader)};
    return {};
  }

  // Returns what a process that has ended wrote to its pipe.
  static std::string error_of(const Started& run) {
    std::array<char, kMaxErrorBytes> text;
    const ssize_t got = ::read(run.error.get(), text.data(), text.size());
    return {text.data(), static_cast<size_t>(std::max<ssize_t>(got, 0))};
  }

  void wait() {
    siginfo_t info{};
    const int signal = ::sigwaitinfo(&handled_, &info);
    if (signal > 0 && signal != SIGCHLD) {
      ending_ = true;
      // A signal from the terminal (SI_KERNEL) has already reached all processes.
      if (info.si_code != SI_KERNEL) pass_on(signal);
    }
    int status = 0;
    for (pid_t child = 0; (child = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      const auto found = running_.find(child);
      if (found == running_.end()) continue;
      done_.push_back({.number = found->second.number,
                       .status = exit_status_of(status),
                       .time = Clock::now() - found->second.at,
                       .error = error_of(found->second)});
      running_.erase(found);
    }
  }

  void pass_on(int signal) const {
    for (const auto& [child, started] : running_) (void)::kill(child, signal);
  }

  const unsigned count_;
  const unsigned jobs_;
  const OneRun& run_;
  sigset_t handled_{};
  sigset_t before_{};
  unsigned next_ = 1;
  bool ending_ = false;
  std::optional<Error> failure_;  // why a run could not be started
  std::map<pid_t, Started> running_;
  std::vector<RepeatedRun> done_;
};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : printable(text)) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

}  // namespace

Result<std::vector<RepeatedRun>> run_repeatedly(unsigned count, unsigned jobs, const OneRun& run) {
  return Runs(count, jobs, run).all();
}

int status_of(const std::vector<RepeatedRun>& runs) {
  const auto failed = std::ranges::find_if(runs, [](const auto& run) { return run.status != 0; });
  return failed == runs.end() ? 0 : failed->status;
}

std::string junit_report(const std::vector<std::string>& names,
                         const std::vector<RepeatedRun>& runs) {
  const auto failures = std::ranges::count_if(
      runs, [](const auto& run) { return run.status != 0 && run.error.empty(); });
  const auto errors =
      std::ranges::count_if(runs, [](const auto& run) { return !run.error.empty(); });
  std::string text = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<testsuite name=\"wick exec\" tests=\"{}\" failures=\"{}\" errors=\"{}\">\n",
      names.size(), failures, names.size() - runs.size() + static_cast<size_t>(errors));
  for (size_t i = 0; i < names.size(); ++i) {
    text += fmt::format("  <testcase classname=\"wick.exec\" name=\"{}\"", escaped(names[i]));
    const auto run = std::ranges::find(runs, i + 1, &RepeatedRun::number);
    if (run == runs.end())
      text += "><error message=\"did not run\"/></testcase>\n";
    else if (run->status == 0)
      text += fmt::format(" time=\"{:.3f}\"/>\n", run->time.count());
    else if (!run->error.empty())
      text += fmt::format(" time=\"{:.3f}\"><error message=\"{}\"/></testcase>\n",
                          run->time.count(), escaped(run->error));
    else
      text += fmt::format(" time=\"{:.3f}\"><failure message=\"exit status {}\"/></testcase>\n",
                          run->time.count(), run->status);
  }
  return text + "</testsuite>\n";
}

}  // namespace wick::cli
