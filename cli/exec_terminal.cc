#include "cli/exec_terminal.h"

#include <fcntl.h>

#include <string_view>
#include <utility>

namespace wick::cli {

namespace {

constexpr std::string_view kHelp =
    "\r\nCtrl-] and then:  q  end the run       p       press the power button\r\n"
    "                  z  suspend wick      Ctrl-]  send a Ctrl-]\r\n";

}  // namespace

console::Size ExecTerminal::size_of(int fd) {
  const auto size = console::size_of_terminal(fd);
  return size && size->columns != 0 && size->rows != 0 ? *size : console::Size{80, 24};
}

Result<std::unique_ptr<ExecTerminal>> ExecTerminal::enter(EventLoop& loop, guest::Session& session,
                                                          int fd, Actions actions) {
  std::unique_ptr<ExecTerminal> self(
      new ExecTerminal(session, TRY(console::RawTerminal::enter(fd)), fd, std::move(actions)));
  ExecTerminal* const raw = self.get();
  self->resize_watch_ = TRY(console::ResizeWatch::create(loop, [raw] { raw->report_size(); }));
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

// Leaves the terminal to the shell while this process is in the background. The timer is necessary
// because a shell sends no signal when it brings this process back.
void ExecTerminal::follow() {
  if (raw_.follow()) {
    report_size();
    session_.retry_input();
  }
  follow_timer_.arm(console::RawTerminal::kFollowPeriod);
}

}  // namespace wick::cli
