#include "console/terminal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace wick::console {

namespace {

// Signals that end the process without running destructors. The first kFaults of them are faults:
// on_fatal() is installed even if there is a handler already, such as a sanitizer's, and passes the
// fault on to it. Any other signal that has a handler is left alone, because that handler ends the
// process in good order.
constexpr std::array kFatalSignals = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGABRT,
                                      SIGSYS,  SIGTRAP, SIGHUP,  SIGINT,  SIGQUIT,
                                      SIGTERM, SIGALRM, SIGUSR1, SIGUSR2, SIGXCPU};
constexpr size_t kFaults = 4;

// A global, because a signal handler has no argument of its own.
struct {
  std::atomic<bool> entered = false;
  std::atomic<bool> raw_now = false;  // this process has set raw mode, in the foreground
  int fd = -1;
  bool of_another_session = false;
  termios before = {};
  termios raw = {};
  std::array<struct sigaction, kFatalSignals.size()> actions_before = {};
  struct sigaction continue_before = {};
  struct sigaction background_read_before = {};
  struct sigaction background_write_before = {};
} terminal;

// The functions from here to on_continue() make only async-signal-safe calls.

bool in_foreground() {
  if (terminal.of_another_session) return false;
  const pid_t owner = ::tcgetpgrp(terminal.fd);
  return owner < 0 || owner == ::getpgrp();
}

bool same_modes(const termios& a, const termios& b) {
  return a.c_iflag == b.c_iflag && a.c_oflag == b.c_oflag && a.c_cflag == b.c_cflag &&
         a.c_lflag == b.c_lflag;
}

// Restores the modes. Does nothing in the background, where the modes belong to the shell.
void restore() {
  if (terminal.raw_now.exchange(false) && in_foreground())
    (void)::tcsetattr(terminal.fd, TCSANOW, &terminal.before);
}

bool make_raw() {
  if (!in_foreground()) {
    terminal.raw_now = false;
    return false;
  }
  termios now;
  if (::tcgetattr(terminal.fd, &now) != 0) return true;
  // If the shell has changed the modes meanwhile, restore() must later set those modes.
  if (!terminal.raw_now || !same_modes(now, terminal.raw)) {
    terminal.before = terminal.raw = now;
    ::cfmakeraw(&terminal.raw);
  }
  terminal.raw_now = true;
  (void)::tcsetattr(terminal.fd, TCSANOW, &terminal.raw);
  return true;
}

void on_fatal(int signal, siginfo_t* info, void*) {
  restore();
  const auto known = std::ranges::find(kFatalSignals, signal);
  const auto index = static_cast<size_t>(known - kFatalSignals.begin());
  (void)::sigaction(signal, &terminal.actions_before[index], nullptr);
  // A fault occurs again when this handler returns, so that the core dump shows where it occurred.
  // Any other signal is raised here, and delivered when the handler returns.
  const bool happens_again = index < kFaults && info->si_code > 0;
  if (!happens_again) (void)::raise(signal);
}

void on_continue(int) {
  const int error = errno;
  if (terminal.entered) (void)make_raw();
  errno = error;
}

// Returns true if `fd` is the controlling terminal of another session. That is so after setsid(1),
// while the shell still reads from the terminal. The only way to find out is to look for a process
// that the terminal controls (proc(5), "tty_nr").
bool controls_another_session(int fd) {
  struct stat status {};
  if (::tcgetpgrp(fd) >= 0 || ::fstat(fd, &status) != 0) return false;
  const uint64_t number = (minor(status.st_rdev) & 0xff) | major(status.st_rdev) << 8 |
                          uint64_t{minor(status.st_rdev) & ~0xffu} << 12;
  std::error_code gone;
  for (std::filesystem::directory_iterator process("/proc", gone), end; !gone && process != end;
       process.increment(gone)) {
    std::ifstream file(process->path() / "stat");
    std::string name;
    std::getline(file, name, ')');
    std::string state;
    pid_t parent = 0, group = 0, session = 0;
    uint64_t terminal_number = 0;
    if (file >> state >> parent >> group >> session >> terminal_number && terminal_number == number)
      return true;
  }
  return false;
}

}  // namespace

Result<RawTerminal> RawTerminal::enter(int fd) {
  if (terminal.entered) return fail("the terminal is in use by another serial port");
  if (::tcgetattr(fd, &terminal.before) != 0)
    return fail_errno(errno, "cannot read the terminal's modes");
  terminal.fd = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (terminal.fd < 0) return fail_errno(errno, "cannot duplicate the terminal's descriptor");

  terminal.of_another_session = controls_another_session(fd);

  static const int at_exit = std::atexit(restore) + std::at_quick_exit(restore);
  (void)at_exit;
  terminal.entered = true;
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  action.sa_sigaction = on_fatal;
  for (size_t i = 0; i < kFatalSignals.size(); ++i) {
    struct sigaction& before = terminal.actions_before[i];
    (void)::sigaction(kFatalSignals[i], nullptr, &before);
    if (i < kFaults || before.sa_handler == SIG_DFL)
      (void)::sigaction(kFatalSignals[i], &action, nullptr);
  }
  action.sa_flags = SA_RESTART;
  action.sa_handler = on_continue;
  (void)::sigaction(SIGCONT, &action, &terminal.continue_before);
  action.sa_handler = SIG_IGN;
  (void)::sigaction(SIGTTIN, &action, &terminal.background_read_before);
  (void)::sigaction(SIGTTOU, &action, &terminal.background_write_before);

  RawTerminal entered;
  (void)entered.follow();
  return entered;
}

bool RawTerminal::follow() {
  // SIGCONT is blocked because on_continue() changes the same variables.
  sigset_t cont;
  sigset_t mask_before;
  sigemptyset(&cont);
  sigaddset(&cont, SIGCONT);
  pthread_sigmask(SIG_BLOCK, &cont, &mask_before);
  const bool foreground = make_raw();
  pthread_sigmask(SIG_SETMASK, &mask_before, nullptr);
  return foreground;
}

void RawTerminal::suspend() {
  restore();
  // The kernel ignores SIGTSTP in an orphaned process group, which has no shell.
  (void)::kill(0, SIGTSTP);
}

RawTerminal::~RawTerminal() {
  if (!entered_) return;
  terminal.entered = false;  // first, so that a SIGCONT does not make the terminal raw again
  restore();
  // A handler that was installed after on_fatal(), by other code, is left in place.
  for (size_t i = 0; i < kFatalSignals.size(); ++i) {
    struct sigaction now {};
    (void)::sigaction(kFatalSignals[i], nullptr, &now);
    if (now.sa_sigaction == on_fatal)
      (void)::sigaction(kFatalSignals[i], &terminal.actions_before[i], nullptr);
  }
  (void)::sigaction(SIGCONT, &terminal.continue_before, nullptr);
  (void)::sigaction(SIGTTIN, &terminal.background_read_before, nullptr);
  (void)::sigaction(SIGTTOU, &terminal.background_write_before, nullptr);
  ::close(terminal.fd);
}

}  // namespace wick::console
