#include "cli/exec_terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <string_view>
#include <utility>

namespace wick::cli {

namespace {

constexpr std::string_view kHelp =
    "\r\nCtrl-] and then:  q  end the run       p       press the power button\r\n"
    "                  z  suspend wick      Ctrl-]  send a Ctrl-]\r\n";

}  // namespace

console::Size ExecTerminal::size_of(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {80, 24};
  return {size.ws_col, size.ws_row};
}

Result<std::unique_ptr<ExecTerminal>> ExecTerminal::enter(EventLoop& loop, guest::Session& session,
                                                          int fd, Actions actions) {
  std::unique_ptr<ExecTerminal> self(
      new ExecTerminal(session, TRY(console::RawTerminal::enter(fd)), fd, std::move(actions)));
  // Threads that are started later inherit this mask; in one that did not block SIGWINCH, the
  // signal would be lost.
  sigset_t resize;
  sigemptyset(&resize);
  sigaddset(&resize, SIGWINCH);
  (void)::pthread_sigmask(SIG_BLOCK, &resize, nullptr);
  self->resize_signal_ = Fd(::signalfd(-1, &resize, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!self->resize_signal_.valid()) return fail_errno(errno, "signalfd: cannot create");
  ExecTerminal* const raw = self.get();
  self->resize_watch_ = TRY(loop.watch(self->resize_signal_.get(), EPOLLIN, [raw](uint32_t) {
    signalfd_siginfo info{};
    while (::read(raw->resize_signal_.get(), &info, sizeof(info)) == sizeof(info)) continue;
    raw->report_size();
  }));
  self->follow_timer_ = TRY(loop.timer([raw] { raw->follow(); }));
  raw->follow();
  return self;
}

ExecTerminal::ExecTerminal(guest::Session& session, console::RawTerminal raw, int fd,
                           Actions actions)
    : session_(session),
      raw_(std::move(raw)),
      screen_(Stream::borrow(fd, O_WRONLY)),
      size_(size_of(fd)),
      keys_({
          .text = [this](std::span<const std::byte> bytes) { session_.type(bytes); },
          .quit = std::move(actions.quit),
          .send_break = [] {},
          .power_button = std::move(actions.power_button),
          .suspend =
              [this] {
                raw_.suspend();
                follow();
              },
          .help = [this] { (void)screen_.write(std::as_bytes(std::span(kHelp))); },
      }) {}

void ExecTerminal::report_size() {
  const console::Size size = size_of(screen_.fd());
  if (std::exchange(size_, size) != size) session_.resize(size);
}

// Leaves the terminal to the shell while this process is in the background. A shell that brings it
// back sends no signal.
void ExecTerminal::follow() {
  if (raw_.follow()) {
    report_size();
    session_.retry_input();
  }
  follow_timer_.arm(console::RawTerminal::kFollowPeriod);
}

}  // namespace wick::cli
