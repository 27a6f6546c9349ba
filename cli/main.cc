// wick: parses the command line, executes the command, and returns its exit status. All errors of
// the host or the user are printed here.
#include <fcntl.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/output.h"
#include "cli/attach.h"
#include "cli/background.h"
#include "cli/doctor.h"
#include "cli/exec.h"
#include "cli/options.h"
#include "cli/run.h"

namespace {

using wick::Result;
using wick::cli::AttachOptions;
using wick::cli::Command;
using wick::cli::CommandError;
using wick::cli::DoctorOptions;
using wick::cli::ExecCommand;
using wick::cli::MachineCommand;
using wick::cli::PrintText;
using wick::cli::RunOptions;
using wick::hostnet::NetCommand;
using wick::image::ImageCommand;

constexpr int kHostFailed = 1;
constexpr int kUsage = 2;

// Opens /dev/null for standard descriptors that the caller has closed, so that, for example, a
// disk image does not become descriptor 1. Standard output is opened read-only, so that writing
// results to it still fails.
void open_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (::fcntl(fd, F_GETFD) < 0)
      (void)::open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

// Sets the stack size of new threads. With the default of 8 MiB the kernel would use a huge page,
// which makes 2 MiB of each thread's stack resident.
void set_stack_size() {
  constexpr size_t kStackBytes = 256 << 10;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

int print_error(const std::string& message, int status) {
  wick::report_error(message);
  return status;
}

// Parses the command line. This is a separate function, so that the parser's memory is freed before
// the run.
std::expected<Command, CommandError> parse(int argc, char** argv) {
  return wick::cli::parse_command(
      std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc),
      [](const std::string& name) { return std::getenv(name.c_str()); });
}

Result<int> execute(const Command& command) {
  if (const auto* const options = std::get_if<RunOptions>(&command))
    return options->detach ? wick::cli::run_in_background(*options) : wick::cli::run(*options);
  if (const auto* const exec = std::get_if<ExecCommand>(&command)) return wick::cli::exec(*exec);
  if (const auto* const options = std::get_if<AttachOptions>(&command))
    return wick::cli::attach(options->socket_path);
  if (std::holds_alternative<DoctorOptions>(command)) return wick::cli::doctor();
  if (const auto* const image = std::get_if<ImageCommand>(&command))
    return std::visit([](const auto& what) { return wick::image::execute(what); }, *image);
  if (const auto* const net = std::get_if<NetCommand>(&command))
    return std::visit([](const auto& what) { return wick::hostnet::execute(what); }, *net);
  if (const auto* const machine = std::get_if<MachineCommand>(&command))
    return std::visit([](const auto& what) { return wick::cli::machines::execute(what); },
                      *machine);
  std::fputs(std::get<PrintText>(command).text.c_str(), stdout);
  return 0;
}

}  // namespace

// Exceptions of libraries (bad_alloc) are not caught: they end the process.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  open_standard_descriptors();
  set_stack_size();
  wick::set_up_output();
  wick::set_up_log(STDERR_FILENO);
  const auto command = parse(argc, argv);
  if (!command) {
    const auto& [kind, error, help] = command.error();
    if (kind == CommandError::Kind::kHost) return print_error(error.message(), kHostFailed);
    return print_error(fmt::format("usage: {} (see {})", error.message(), help), kUsage);
  }
  const auto status = execute(*command);
  const auto results = wick::finish_results();
  spdlog::default_logger()->flush();
  if (!status) return print_error(status.error().message(), kHostFailed);
  return results ? *status : print_error(results.error().message(), kHostFailed);
}
