#include "hostnet/executor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/printable.h"
#include "base/process.h"
#include "hostnet/host_view.h"

namespace wick::hostnet {

namespace {

Result<void> end_process(const Fd& process, pid_t pid) {
  for (const int number : {SIGTERM, SIGKILL}) {
    constexpr int kTimeoutMs = 5000;
    if (::syscall(SYS_pidfd_send_signal, process.get(), number, nullptr, 0) < 0 && errno != ESRCH)
      return fail_errno(errno, "dnsmasq, process {}: cannot stop", pid);
    pollfd ended{process.get(), POLLIN, 0};
    if (::poll(&ended, 1, kTimeoutMs) > 0) return {};
  }
  return fail("dnsmasq, process {}: does not end", pid);
}

// Stops all dnsmasq processes of the network, in case more than one runs. The number of attempts is
// bounded, because a compromised dnsmasq could start new processes without end.
Result<void> stop_dnsmasq(const std::string& network) {
  constexpr int kMaxProcesses = 64;
  for (int i = 0; i < kMaxProcesses; ++i) {
    const pid_t pid = find_dnsmasq(network);
    if (pid == 0) return {};
    const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    // The process is checked again, because the PID may have been reused before pidfd_open.
    if (process.valid() && find_dnsmasq(network) == pid) TRY(end_process(process, pid));
  }
  return fail("dnsmasq of {}: new processes appear as fast as they are stopped", network);
}

Result<void> write_value(const WriteValue& action) {
  const Fd fd(::open(action.path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT && action.may_be_missing) return {};
  if (!fd.valid()) return fail_errno(errno, "{}: cannot open", action.path);
  if (::write(fd.get(), action.value.data(), action.value.size()) < 0)
    return fail_errno(errno, "{}: cannot write {}", action.path, action.value);
  return {};
}

Result<void> run_command(const RunCommand& command) {
  const auto outcome = TRY(run_process(command.arguments, command.input));
  if (outcome.status == 0) return {};
  const std::string& program = command.arguments.front();
  const auto refusal = fail("{}: exit status {}: {}", shell_words(command.arguments),
                            outcome.status, one_line(outcome.errors));
  if (command.may_fail) {
    spdlog::info("{}", printable(refusal.error().message()));
    return {};
  }
  if (program == "dnsmasq" && outcome.errors.find("in use") != std::string::npos)
    return with_hint(refusal,
                     "another DNS or DHCP server uses the port (ss -lnup): make it bind to its "
                     "own interfaces only, or use --no-dhcp");
  if (program == "nft" || program == "iptables-restore")
    return with_hint(refusal, "the kernel may lack this feature; --no-nat does not need it");
  return refusal;
}

}  // namespace

Result<void> Executor::execute(const Action& action) {
  spdlog::debug("{}", printable(shell_line(action)));
  if (const auto* const value = std::get_if<WriteValue>(&action)) return write_value(*value);
  if (const auto* const stop = std::get_if<StopDnsmasq>(&action))
    return stop_dnsmasq(stop->network);
  return run_command(std::get<RunCommand>(action));
}

}  // namespace wick::hostnet
