#include "cli/attach.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/output.h"
#include "base/unix_socket.h"
#include "console/escape_keys.h"
#include "console/open.h"
#include "console/terminal.h"

namespace wick::cli {

namespace {

constexpr int kQuietMs = 1000;

enum class End { kDetached, kMachineClosed };

// Writes all bytes, and waits as long as necessary.
Result<void> write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd writable{.fd = fd, .events = POLLOUT, .revents = 0};
      (void)::poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      return fail_errno(errno, "standard output: cannot write");
    }
  }
  return {};
}

class Session {
 public:
  // `terminal` must be nullptr if `in` is not a terminal.
  Session(Fd socket, int in, int out, console::RawTerminal* terminal)
      : socket_(std::move(socket)), in_(in), out_(out), terminal_(terminal) {}

  Result<End> run() {
    for (;;) {
      if (background_) background_ = !terminal_->follow();
      // Input is not read while earlier input waits for room in the socket. A process in the
      // background does not read input either, because the shell reads it.
      const bool read_input = input_open_ && to_send_.empty() && !background_;
      const short socket_events = to_send_.empty() ? POLLIN : POLLIN | POLLOUT;
      std::array<pollfd, 2> ends = {
          {{.fd = socket_.get(), .events = socket_events, .revents = 0},
           {.fd = read_input ? in_ : -1, .events = POLLIN, .revents = 0}}};
      const bool leaving = !input_open_ && to_send_.empty() && sent_anything_;
      constexpr auto kBackgroundMs = static_cast<int>(console::RawTerminal::kFollowPeriod.count());
      const int timeout_ms = background_ ? kBackgroundMs : leaving ? kQuietMs : -1;
      const int ready = ::poll(ends.data(), ends.size(), timeout_ms);
      if (ready == 0 && background_) continue;
      if (ready == 0) return End::kDetached;
      if (ready < 0) continue;
      std::optional<End> end;
      if (ends[0].revents != 0) end = TRY(from_machine());
      if (!end && (ends[0].revents & POLLOUT) != 0) send();
      if (!end && ends[1].revents != 0) end = from_input();
      if (end) return *end;
    }
  }

  bool refused() const { return greeting_ == console::kRefusal; }

 private:
  // Copies output from the machine. Returns nullopt if the session continues.
  Result<std::optional<End>> from_machine() {
    std::array<std::byte, 4096> chunk;
    const ssize_t got = ::recv(socket_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    if (got <= 0) return End::kMachineClosed;
    const auto bytes = std::span(chunk).first(static_cast<size_t>(got));
    const size_t missing = console::kRefusal.size() - greeting_.size();
    greeting_.append(reinterpret_cast<const char*>(bytes.data()), std::min(missing, bytes.size()));
    TRY(write_all(out_, bytes));
    return std::nullopt;
  }

  std::optional<End> from_input() {
    std::array<std::byte, 4096> chunk;
    const ssize_t got = ::read(in_, chunk.data(), chunk.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return {};
    if (got < 0 && errno == EIO && terminal_ != nullptr && !terminal_->follow()) {
      background_ = true;
      return {};
    }
    if (got <= 0) {
      if (terminal_ != nullptr) return End::kDetached;  // the terminal is gone
      input_open_ = false;
      return {};
    }
    auto bytes = std::span(chunk).first(static_cast<size_t>(got));
    const auto escape = std::ranges::find(bytes, console::kEscapeKey);
    const bool leave = terminal_ != nullptr && escape != bytes.end();
    if (leave) bytes = bytes.first(static_cast<size_t>(escape - bytes.begin()));
    to_send_.assign(bytes.begin(), bytes.end());
    send();
    if (leave) return End::kDetached;
    return {};
  }

  void send() {
    const ssize_t sent =
        ::send(socket_.get(), to_send_.data(), to_send_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      to_send_.erase(to_send_.begin(), to_send_.begin() + sent);
      sent_anything_ = true;
    } else if (errno != EAGAIN && errno != EINTR) {
      to_send_.clear();  // the machine is gone, but its last output must still be read
    }
  }

  const Fd socket_;
  const int in_;
  const int out_;
  console::RawTerminal* const terminal_;
  bool background_ = terminal_ != nullptr;  // true at first, so that run() asks the terminal
  bool input_open_ = true;
  bool sent_anything_ = false;
  std::vector<std::byte> to_send_;
  std::string greeting_;  // the first bytes from the machine
};

}  // namespace

Result<int> attach(const std::string& socket_path, int in, int out) {
  Fd socket = TRY(connect_unix(socket_path));
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is an error to report
  std::optional<console::RawTerminal> terminal;
  if (::isatty(in) == 1) terminal.emplace(TRY(console::RawTerminal::enter(in)));
  Session session(std::move(socket), in, out, terminal ? &*terminal : nullptr);
  const Result<End> end = session.run();
  terminal.reset();  // restores the terminal before messages
  if (!end) return std::unexpected(end.error());
  if (session.refused()) {
    report_error(socket_path + ": another client is attached");
    return 1;
  }
  report_error(*end == End::kDetached
                   ? fmt::format("detached from {}; the machine keeps running", socket_path)
                   : socket_path + ": the machine closed the connection");
  return 0;
}

}  // namespace wick::cli
