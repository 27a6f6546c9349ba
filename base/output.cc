#include "base/output.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/printable.h"
#include "base/stream.h"

namespace wick {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

int result_error = 0;  // errno of the first failed write to standard output

// Writes all of `text`. Returns an errno value, or 0.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      // Another process that shares the descriptor set O_NONBLOCK.
      pollfd writable{.fd = fd, .events = POLLOUT, .revents = 0};
      (void)::poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

ssize_t write_to_stdout(void*, const char* data, size_t size_bytes) {
  if (result_error == 0) result_error = write_all(STDOUT_FILENO, {data, size_bytes});
  return static_cast<ssize_t>(size_bytes);
}

ssize_t write_to_stderr(void*, const char* data, size_t size_bytes) {
  (void)write_all(STDERR_FILENO, {data, size_bytes});
  return static_cast<ssize_t>(size_bytes);
}

FILE* stream_that_calls(cookie_write_function_t* write) {
  return ::fopencookie(nullptr, "w",
                       {.read = nullptr, .write = write, .seek = nullptr, .close = nullptr});
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// Lines on a terminal end in "\r\n": while the guest's console uses the terminal it is in
// raw mode, where a newline does not return to column 1.
class Formatter final : public spdlog::formatter {
 public:
  explicit Formatter(std::string end_of_line) : end_of_line_(std::move(end_of_line)) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& to) override {
    const auto level = spdlog::level::to_string_view(message.level);
    const std::string line = fmt::format(
        "{}: {}: {}{}", std::string_view(message.logger_name.data(), message.logger_name.size()),
        std::string_view(level.data(), level.size()),
        printable({message.payload.data(), message.payload.size()}), end_of_line_);
    to.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<Formatter>(end_of_line_);
  }

 private:
  const std::string end_of_line_;
};

// Buffers one line that could not be written in full, and counts the messages that it drops
// until that line is written.
class Sink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit Sink(int fd) : fd_(fd) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (!caught_up(message.logger_name)) {
      ++dropped_;
      return;
    }
    queue(message);
    (void)write_waiting();
  }

  void flush_() override { (void)caught_up("wick"); }

  // Writes what is buffered, and then the number of dropped messages. Returns true if nothing is
  // left.
  bool caught_up(spdlog::string_view_t logger) {
    if (!write_waiting()) return false;
    if (dropped_ == 0) return true;
    const std::string text =
        fmt::format("{} messages were dropped: standard error was full", dropped_);
    dropped_ = 0;
    queue({logger, spdlog::level::warn, text});
    return write_waiting();
  }

  void queue(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    waiting_.assign(line.data(), line.size());
  }

  // Tries again after any error: a full disk may get room again, as a pipe does.
  bool write_waiting() {
    // Opened on first use, because most runs log nothing.
    if (!stream_.valid() && !waiting_.empty()) stream_ = Stream::borrow(fd_, O_WRONLY);
    while (!waiting_.empty()) {
      const ssize_t written = stream_.write(bytes_of(waiting_));
      if (written <= 0) return false;
      waiting_.erase(0, static_cast<size_t>(written));
    }
    return true;
  }

  const int fd_;
  Stream stream_;
  std::string waiting_;
  uint64_t dropped_ = 0;
};

}  // namespace

void set_up_output() {
  // If fopencookie has no memory, the standard streams stay.
  if (FILE* const results = stream_that_calls(write_to_stdout)) {
    stdout = results;
    std::setvbuf(stdout, nullptr, ::isatty(STDOUT_FILENO) == 1 ? _IOLBF : _IOFBF, BUFSIZ);
  }
  if (FILE* const messages = stream_that_calls(write_to_stderr)) {
    stderr = messages;
    std::setvbuf(stderr, nullptr, _IONBF, 0);
  }
}

Result<void> finish_results() {
  (void)std::fflush(stdout);
  if (result_error != 0)
    return fail_errno(result_error, "standard output: cannot write the results");
  return {};
}

Result<void> write_message(std::string_view text, milliseconds timeout) {
  const Stream stream = Stream::borrow(STDERR_FILENO, O_WRONLY);
  const auto deadline = steady_clock::now() + timeout;
  while (!text.empty()) {
    const ssize_t written = stream.write(bytes_of(text));
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
      continue;
    }
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
    if (written != -EAGAIN || left.count() <= 0)
      return fail_errno(static_cast<int>(-written), "standard error: cannot write");
    pollfd writable{.fd = stream.fd(), .events = POLLOUT, .revents = 0};
    (void)::poll(&writable, 1, static_cast<int>(left.count()));
  }
  return {};
}

void report_error(std::string_view message) {
  (void)write_message("wick: " + printable(message) + "\n");
}

void set_up_log(int fd) {
  auto sink = std::make_shared<Sink>(fd);
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("wick", std::move(sink)));
  spdlog::set_formatter(std::make_unique<Formatter>(::isatty(fd) == 1 ? "\r\n" : "\n"));
}

}  // namespace wick
