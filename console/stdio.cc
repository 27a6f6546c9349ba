#include <fcntl.h>

#include <cstring>
#include <optional>

#include "console/escape_keys.h"
#include "console/open.h"
#include "console/resize_watch.h"
#include "console/terminal.h"

namespace wick::console {

namespace {

constexpr std::string_view kHelp =
    "\r\nCtrl-] and then:  q  end the run       p       press the power button\r\n"
    "                  b  send a BREAK      z       suspend wick (the shell's fg continues it)\r\n"
    "                  Ctrl-]  send a Ctrl-]\r\n";

// State that exists only if standard input is a terminal.
struct Terminal {
  RawTerminal raw;
  Stream screen;  // for the help text, because standard output may be redirected
  EscapeKeys keys;
};

class StdioHost final : public Port::Host {
 public:
  explicit StdioHost(Port& port) : port_(port) {}

  void use_terminal(RawTerminal raw, int fd, TerminalKeys keys) {
    terminal_.emplace(Terminal{
        .raw = std::move(raw),
        .screen = Stream::borrow(fd, O_WRONLY),
        .keys = EscapeKeys({
            .text = [this](std::span<const std::byte> bytes) { port_.push_input(bytes); },
            .quit = std::move(keys.quit),
            .send_break = [this] { port_.push_break(); },
            .power_button = std::move(keys.power_button),
            .suspend =
                [this] {
                  terminal_->raw.suspend();
                  (void)follow_foreground();
                },
            .help = [this] { (void)terminal_->screen.write(std::as_bytes(std::span(kHelp))); },
        }),
    });
  }

  // Starts to follow the shell's job control: while this process is in the background, it neither
  // reads the terminal nor changes its modes.
  Result<void> follow_jobs(EventLoop& loop) {
    foreground_timer_ = TRY(loop.timer([this] { (void)follow_foreground(); }));
    (void)follow_foreground();
    return {};
  }

  // Reports the terminal's size to the guest, now and whenever it changes.
  Result<void> follow_size(EventLoop& loop) {
    resize_watch_ = TRY(ResizeWatch::create(loop, [this] { report_size(); }));
    report_size();
    return {};
  }

  void received(std::span<const std::byte> bytes) override {
    if (terminal_) {
      terminal_->keys.type(bytes);
    } else {
      port_.push_input(bytes);
    }
  }

  bool in_background() override { return terminal_ && !follow_foreground(); }

  void output_ended(int error) override {
    spdlog::warn("standard output: cannot write the guest's output: {}; the output ends here",
                 std::strerror(error));
  }

 private:
  bool follow_foreground() {
    const bool foreground = terminal_->raw.follow();
    port_.hold_input(!foreground);
    if (foreground)
      report_size();  // a process in the background gets no SIGWINCH
    else
      foreground_timer_.arm(RawTerminal::kFollowPeriod);
    return foreground;
  }

  void report_size() {
    if (const auto size = size_of_terminal(terminal_->screen.fd())) port_.resize(*size);
  }

  Port& port_;
  std::optional<Terminal> terminal_;
  EventLoop::Timer foreground_timer_;
  std::optional<ResizeWatch> resize_watch_;
};

}  // namespace

Result<std::unique_ptr<Port>> open_stdio(EventLoop& loop, TerminalKeys keys, const LogFile& log,
                                         int in, int out) {
  auto port = TRY(Port::create(loop, "stdio", log));
  auto host = std::make_unique<StdioHost>(*port);
  if (::isatty(in) == 1) {
    host->use_terminal(TRY(RawTerminal::enter(in)), in, std::move(keys));
    TRY(host->follow_jobs(loop));
    TRY(host->follow_size(loop));
  }
  port->set_host(std::move(host));
  port->attach(Stream::borrow(in, O_RDONLY), Stream::borrow(out, O_WRONLY));
  return port;
}

}  // namespace wick::console
