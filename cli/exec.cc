#include "cli/exec.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/output.h"
#include "base/write_all.h"
#include "cli/exec_repeat.h"
#include "cli/exec_task.h"
#include "cli/run.h"

namespace wick::cli {

namespace {

// A run for each kernel, each script and each repetition.
std::vector<ExecCommand> runs_of(const ExecCommand& command) {
  const ExecOptions& options = command.exec;
  const auto or_one = [](std::vector<std::string> list, const std::string& one) {
    return list.empty() ? std::vector{one} : std::move(list);
  };
  std::vector<ExecCommand> runs;
  for (const std::string& kernel : or_one(options.kernels, command.run.machine.kernel_path))
    for (const std::string& script : or_one(options.scripts, ""))
      for (unsigned i = 0; i < options.repeat; ++i) {
        ExecCommand run = command;
        run.run.machine.kernel_path = kernel;
        run.exec.scripts.clear();
        if (!script.empty()) run.exec.scripts = {script};
        runs.push_back(std::move(run));
      }
  return runs;
}

// Says what is different about the run.
std::string name_of(const ExecCommand& run, size_t number) {
  std::string name = fmt::format("{}", fmt::join(run.exec.scripts, ""));
  if (!run.exec.command.empty())
    name += fmt::format("{}{}", name.empty() ? "" : " ", fmt::join(run.exec.command, " "));
  if (run.exec.kernels.size() > 1) name += " on " + run.run.machine.kernel_path;
  return fmt::format("{} #{}", name, number);
}

// In a process of its own. Several runs cannot share what the caller types, nor their results.
int run_one(ExecCommand command, unsigned number, bool of_several) {
  if (of_several) {
    const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    (void)::dup2(null.get(), STDIN_FILENO);
    if (!command.exec.json_path.empty()) command.exec.json_path += fmt::format(".{}", number);
    for (ExecOptions::Copy& copy : command.exec.copies) copy.host += fmt::format(".{}", number);
  }
  const auto status = run(command.run, nullptr, std::make_unique<ExecTask>(command.exec));
  if (status) return *status;
  report_error(status.error().message());
  return 1;
}

Result<int> run_all(const std::vector<ExecCommand>& commands) {
  const ExecOptions& options = commands.front().exec;
  Fd report;
  if (!options.junit_path.empty()) {
    report = Fd(::open(options.junit_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!report.valid())
      return with_hint(fail_errno(errno, "{}: cannot be written", options.junit_path),
                       "check --junit");
  }
  const auto count = static_cast<unsigned>(commands.size());
  const auto runs = TRY(run_repeatedly(count, options.jobs, [&](unsigned number) {
    return run_one(commands[number - 1], number, count > 1);
  }));
  if (report.valid()) {
    std::vector<std::string> names;
    for (const ExecCommand& command : commands) names.push_back(name_of(command, names.size() + 1));
    const std::string text = junit_report(names, runs);
    if (const int error = write_all(report.get(), text); error != 0)
      return fail_errno(error, "{}: cannot be written", options.junit_path);
  }
  // A signal has ended the others before they began.
  const int status = status_of(runs);
  return status == 0 && runs.size() < count ? 1 : status;
}

}  // namespace

Result<int> exec(const ExecCommand& command) {
  const std::vector<ExecCommand> runs = runs_of(command);
  if (runs.size() > 1 || !command.exec.junit_path.empty()) return run_all(runs);
  const ExecCommand& only = runs.front();
  return run(only.run, nullptr, std::make_unique<ExecTask>(only.exec));
}

}  // namespace wick::cli
