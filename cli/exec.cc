#include "cli/exec.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>

#include "base/fd.h"
#include "base/output.h"
#include "base/write_all.h"
#include "cli/exec_repeat.h"
#include "cli/exec_task.h"
#include "cli/run.h"

namespace wick::cli {

namespace {

size_t at_least_one(size_t count) { return std::max<size_t>(count, 1); }

// Returns the number of runs: one for each combination of a kernel, a script and a repetition.
size_t count_of(const ExecOptions& options) {
  return at_least_one(options.kernels.size()) * at_least_one(options.scripts.size()) *
         options.repeat;
}

// Returns the command of run `number`, counted from 1.
ExecCommand run_of(ExecCommand command, size_t number) {
  ExecOptions& options = command.exec;
  const size_t pair = (number - 1) / options.repeat;
  const size_t scripts = at_least_one(options.scripts.size());
  if (!options.kernels.empty()) command.run.machine.kernel_path = options.kernels[pair / scripts];
  if (!options.scripts.empty()) options.scripts = {options.scripts[pair % scripts]};
  return command;
}

// Returns a name that tells this run from the others.
std::string name_of(const ExecCommand& run, size_t number) {
  std::string name = fmt::format("{}", fmt::join(run.exec.scripts, ""));
  if (!run.exec.command.empty())
    name += fmt::format("{}{}", name.empty() ? "" : " ", fmt::join(run.exec.command, " "));
  if (run.exec.kernels.size() > 1) name += " on " + run.run.machine.kernel_path;
  return fmt::format("{} #{}", name, number);
}

// Executes one run, in a process of its own. Several runs can share neither the caller's input nor
// the files of their results.
int run_one(ExecCommand command, unsigned number, bool of_several, std::string& error) {
  if (of_several) {
    const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    (void)::dup2(null.get(), STDIN_FILENO);
    if (!command.exec.json_path.empty()) command.exec.json_path += fmt::format(".{}", number);
    for (ExecOptions::Copy& copy : command.exec.copies) copy.host += fmt::format(".{}", number);
  }
  const auto status = run(command.run, nullptr, std::make_unique<ExecTask>(command.exec, &error));
  if (status) return *status;
  error = status.error().message();
  report_error(error);
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
  const auto count = static_cast<unsigned>(count_of(options));
  const auto runs =
      TRY(run_repeatedly(count, options.jobs, [&](unsigned number, std::string& error) {
        return run_one(run_of(command, number), number, count > 1, error);
      }));
  if (report.valid()) {
    std::vector<std::string> names;
    for (unsigned number = 1; number <= count; ++number)
      names.push_back(name_of(run_of(command, number), number));
    const std::string text = junit_report(names, runs);
    if (const int error = write_all(report.get(), text); error != 0)
      return fail_errno(error, "{}: cannot be written", options.junit_path);
  }
  // If a signal kept some runs from starting, wick exec fails, even if all runs that were started
  // succeeded.
  const int status = status_of(runs);
  return status == 0 && runs.size() < count ? 1 : status;
}

}  // namespace

Result<int> exec(const ExecCommand& command) {
  if (count_of(command.exec) > 1 || !command.exec.junit_path.empty()) return run_all(command);
  return run(command.run, nullptr, std::make_unique<ExecTask>(command.exec));
}

}  // namespace wick::cli
