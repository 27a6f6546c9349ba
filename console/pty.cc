#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>

#include <array>
#include <chrono>

#include "console/open.h"

namespace wick::console {

namespace {

// A new client is found by polling, because opening the terminal causes no event.
constexpr std::chrono::milliseconds kPollInterval{100};

Stream duplicate(const Fd& fd) { return Stream(Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0))); }

// Owns the master side of the pty. A client is present while the master is not hung up.
class PtyHost final : public Port::Host {
 public:
  PtyHost(Port& port, Fd master) : port_(port), master_(std::move(master)) {}

  Result<void> start(EventLoop& loop) {
    poll_timer_ = TRY(loop.timer([this] { look_for_client(); }));
    look_for_client();
    return {};
  }

  void received(std::span<const std::byte> bytes) override { port_.push_input(bytes); }
  void input_ended() override { client_left(); }
  void output_ended(int) override { client_left(); }

 private:
  void client_left() {
    port_.detach();
    poll_timer_.arm(kPollInterval);
  }

  void look_for_client() {
    pollfd master{.fd = master_.get(), .events = POLLIN, .revents = 0};
    (void)::poll(&master, 1, 0);
    // A client that has come and left since the last poll may have sent input.
    const bool hung_up = (master.revents & POLLHUP) != 0;
    if (hung_up && (master.revents & POLLIN) == 0) {
      poll_timer_.arm(kPollInterval);
    } else {
      port_.attach(duplicate(master_), hung_up ? Stream() : duplicate(master_));
    }
  }

  Port& port_;
  const Fd master_;
  EventLoop::Timer poll_timer_;
};

}  // namespace

Result<std::unique_ptr<Port>> open_pty(EventLoop& loop, const LogFile& log) {
  Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  if (!master.valid())
    return with_hint(fail_errno(errno, "pty: cannot open a pseudo terminal"),
                     "is /dev/pts mounted?");
  std::array<char, 64> path{};
  if (::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0 ||
      ::ptsname_r(master.get(), path.data(), path.size()) != 0)
    return fail_errno(errno, "pty: cannot make a pseudo terminal");

  termios modes{};
  (void)::tcgetattr(master.get(), &modes);
  ::cfmakeraw(&modes);
  (void)::tcsetattr(master.get(), TCSANOW, &modes);
  // The master reports POLLHUP only after the terminal has been opened and closed once.
  Fd(::open(path.data(), O_RDWR | O_NOCTTY | O_CLOEXEC)).close();

  auto port = TRY(Port::create(loop, path.data(), log));
  auto host = std::make_unique<PtyHost>(*port, std::move(master));
  PtyHost& started = *host;
  port->set_host(std::move(host));
  TRY(started.start(loop));
  return port;
}

}  // namespace wick::console
