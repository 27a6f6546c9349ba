#include "console/terminal.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>

namespace wick::console {

namespace {

// Ends that no destructor sees. Faults come first: their handlers, such as a
// sanitizer's, run after ours; where another signal has a handler, that one
// ends the process in good order.
constexpr std::array kFatalSignals = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGABRT,
                                      SIGSYS,  SIGTRAP, SIGHUP,  SIGINT,  SIGQUIT,
                                      SIGTERM, SIGALRM, SIGUSR1, SIGUSR2, SIGXCPU};
constexpr size_t kFaults = 4;

// A signal handler has nothing else to go by than a global.
struct {
  std::atomic<bool> entered = false;
  int fd = -1;
  termios before = {};
  termios raw = {};
  std::array<struct sigaction, kFatalSignals.size()> actions_before = {};
  struct sigaction continue_before = {};
} terminal;

// From here to enter(): async-signal-safe calls only.

void set_modes(const termios& modes) {
  // In the background this would stop the process.
  sigset_t stop;
  sigset_t mask_before;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &stop, &mask_before);
  (void)::tcsetattr(terminal.fd, TCSANOW, &modes);
  pthread_sigmask(SIG_SETMASK, &mask_before, nullptr);
}

void restore() {
  if (terminal.entered.exchange(false)) set_modes(terminal.before);
}

void on_fatal(int signal, siginfo_t* info, void*) {
  restore();
  const auto known = std::ranges::find(kFatalSignals, signal);
  const auto index = static_cast<size_t>(known - kFatalSignals.begin());
  (void)::sigaction(signal, &terminal.actions_before[index], nullptr);
  // A fault happens again on return, and then with its address for the core
  // dump; any other signal is sent again, and taken on return.
  const bool happens_again = index < kFaults && info->si_code > 0;
  if (!happens_again) (void)::raise(signal);
}

void on_continue(int) {
  // The shell changed the modes while we were stopped.
  const bool foreground = ::tcgetpgrp(terminal.fd) == ::getpgrp();
  if (terminal.entered && foreground) set_modes(terminal.raw);
}

}  // namespace

Result<RawTerminal> RawTerminal::enter(int fd) {
  if (terminal.entered) return fail("the terminal is in use by another serial port");
  if (::tcgetattr(fd, &terminal.before) != 0)
    return fail_errno(errno, "terminal: cannot read its modes");
  terminal.fd = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (terminal.fd < 0) return fail_errno(errno, "terminal: cannot keep it open");
  terminal.raw = terminal.before;
  ::cfmakeraw(&terminal.raw);

  static const int at_exit = std::atexit(restore);
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

  RawTerminal entered;
  // In the background it stops us until the shell's `fg`, as any program that
  // wants the terminal.
  if (::tcsetattr(terminal.fd, TCSANOW, &terminal.raw) != 0)
    return fail_errno(errno, "terminal: cannot make it raw");
  return entered;
}

RawTerminal::~RawTerminal() {
  if (!entered_) return;
  restore();
  // Only what is still ours.
  for (size_t i = 0; i < kFatalSignals.size(); ++i) {
    struct sigaction now {};
    (void)::sigaction(kFatalSignals[i], nullptr, &now);
    if (now.sa_sigaction == on_fatal)
      (void)::sigaction(kFatalSignals[i], &terminal.actions_before[i], nullptr);
  }
  (void)::sigaction(SIGCONT, &terminal.continue_before, nullptr);
  ::close(terminal.fd);
}

}  // namespace wick::console
