#include "cli/exec.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/output.h"
#include "cli/exec_repeat.h"
#include "cli/exec_task.h"
#include "cli/run.h"

namespace wick::cli {

namespace {

// In a process of its own. Several runs cannot share what the caller types.
int run_once(ExecCommand command, unsigned number) {
  if (command.exec.repeat > 1) {
    const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    (void)::dup2(null.get(), STDIN_FILENO);
    if (!command.exec.json_path.empty()) command.exec.json_path += fmt::format(".{}", number);
  }
  const auto status = run(command.run, nullptr, std::make_unique<ExecTask>(command.exec));
  if (status) return *status;
  report_error(status.error().message());
  return 1;
}

Result<int> run_all(const ExecCommand& command) {
  const ExecOptions& options = command.exec;
  Fd report;
  if (!options.junit_path.empty()) {
    report = Fd(::open(options.junit_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!report.valid())
      return with_hint(fail_errno(errno, "{}: cannot be written", options.junit_path),
                       "check --junit");
  }
  const auto runs = TRY(run_repeatedly(options.repeat, options.jobs,
                                       [&](unsigned number) { return run_once(command, number); }));
  if (report.valid()) {
    const std::string text = junit_report(fmt::format("{}", fmt::join(options.command, " ")), runs);
    if (::write(report.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      return fail_errno(errno, "{}: cannot be written", options.junit_path);
  }
  // A signal has ended the others before they began.
  const int status = status_of(runs);
  return status == 0 && runs.size() < options.repeat ? 1 : status;
}

}  // namespace

Result<int> exec(const ExecCommand& command) {
  if (command.exec.repeat > 1 || !command.exec.junit_path.empty()) return run_all(command);
  return run(command.run, nullptr, std::make_unique<ExecTask>(command.exec));
}

}  // namespace wick::cli
