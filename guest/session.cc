#include "guest/session.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/bytes.h"

namespace wick::guest {

namespace {

constexpr uint32_t kCreditBytes = WICK_WINDOW_BYTES / 4;
// While more than this waits for the guest, no input is read from the caller and no credit is
// given. So the bytes that wait are bounded, even if the guest never reads its port.
constexpr size_t kMaxWaitingBytes = 64 << 10;
constexpr size_t kMaxCopyErrors = 16;
constexpr std::chrono::seconds kFlushTimeout{2};

const char* name_of(uint8_t stream) {
  return stream == WICK_STDOUT ? "standard output" : "standard error";
}

std::string text_of(Payload payload) {
  return {reinterpret_cast<const char*>(payload.data()), payload.size()};
}

}  // namespace

Result<std::unique_ptr<Session>> Session::create(EventLoop& loop, Streams streams, Events events) {
  return std::unique_ptr<Session>(new Session(loop, std::move(streams), std::move(events)));
}

// Called when the command has started. If the reader of an output leaves, or has left before, the
// command is told.
void Session::watch_outputs() {
  for (const uint8_t stream : {WICK_STDOUT, WICK_STDERR}) {
    Output& output = outputs_[stream];
    if (output.closed) continue;
    // epoll refuses a regular file, which needs no watch: a write to it never blocks.
    auto watch = loop_.watch(output.stream.fd(), 0, [this, stream](uint32_t ready) {
      if ((ready & (EPOLLHUP | EPOLLERR)) != 0)
        close_output(outputs_[stream], stream, EPIPE);
      else
        pass_output(outputs_[stream], stream);
      tell_end();
    });
    if (watch) output.watch = *std::move(watch);
  }
}

Session::Session(EventLoop& loop, Streams streams, Events events)
    : loop_(loop), events_(std::move(events)), input_(std::move(streams.in)) {
  outputs_[WICK_STDOUT].stream = std::move(streams.out);
  outputs_[WICK_STDERR].stream = std::move(streams.err);
  for (Output& output : outputs_) output.closed = !output.stream.valid();
}

Session::~Session() = default;

// --- from the guest ---------------------------------------------------------

void Session::write(std::span<const std::byte> bytes) {
  if (state_ == State::kEnded) return;
  const auto fed = reader_.feed(
      bytes, [this](const wick_frame& frame, Payload payload) { return handle(frame, payload); });
  if (!fed)
    finish({.kind = CommandEnd::Kind::kFailed,
            .message = "the guest broke the protocol: " + fed.error().message()});
  give_credit();
  tell_end();
}

Result<void> Session::handle(const wick_frame& frame, Payload payload) {
  const auto number = load_le<uint32_t>(payload);
  if (state_ == State::kEnded) return {};  // the guest may say anything after the end
  const State needed = frame.type == WICK_FRAME_HELLO     ? State::kBooting
                       : frame.type == WICK_FRAME_STARTED ? State::kGreeted
                       : frame.type == WICK_FRAME_ERROR && state_ != State::kBooting
                           ? state_
                           : State::kRunning;
  if (state_ != needed) return fail("a frame of type {} at the wrong time", frame.type);
  switch (frame.type) {
    case WICK_FRAME_HELLO:
      if (number != WICK_PROTOCOL_VERSION)
        return fail("version {}, not {}", number, int{WICK_PROTOCOL_VERSION});
      state_ = State::kGreeted;
      return {};
    case WICK_FRAME_STARTED:
      state_ = State::kRunning;
      if (events_.started) events_.started();
      watch_outputs();
      watch_input();
      return {};
    case WICK_FRAME_DATA:
      return take_output(outputs_[frame.stream], frame.stream, payload);
    case WICK_FRAME_CREDIT:
      if (number > WICK_WINDOW_BYTES - input_credit_)
        return fail("{} bytes of credit that it never took", number);
      input_credit_ += number;
      watch_input();
      return {};
    case WICK_FRAME_NOT_COPIED:
      if (copy_errors_.size() < kMaxCopyErrors) copy_errors_.push_back(text_of(payload));
      return {};
    case WICK_FRAME_EXIT:
      return handle_exit(payload);
    default: {  // the type is WICK_FRAME_ERROR
      const bool started = number != WICK_CANNOT_EXECUTE && number != WICK_NOT_FOUND;
      finish({.kind = started ? CommandEnd::Kind::kFailed : CommandEnd::Kind::kNotStarted,
              .status = static_cast<int>(number),
              .message = text_of(payload.subspan(sizeof(number)))});
      return {};
    }
  }
}

Result<void> Session::handle_exit(Payload payload) {
  constexpr uint32_t kMaxStatus = 255;
  constexpr uint32_t kMaxSignal = 64;
  const auto exit = load_le<wick_exit>(payload);
  if (exit.status > kMaxStatus || exit.signal > kMaxSignal ||
      (exit.status != 0 && exit.signal != 0))
    return fail("an end with status {} and signal {}", exit.status, exit.signal);
  finish({.kind = CommandEnd::Kind::kExited,
          .exit = exit,
          .status = static_cast<int>(exit.signal != 0 ? 128 + exit.signal : exit.status),
          .message = {}});
  return {};
}

void Session::finish(CommandEnd end) {
  state_ = State::kEnded;
  input_watch_.reset();
  if (end_) return;
  end_ = std::move(end);
  end_->output_error = output_error_;
  end_->copy_errors = std::move(copy_errors_);
}

void Session::tell_end() {
  const auto waits = [](const Output& output) { return !output.waiting.empty(); };
  if (state_ != State::kEnded || told_ || std::ranges::any_of(outputs_, waits)) return;
  told_ = true;
  if (events_.ended) events_.ended();
}

// --- output -----------------------------------------------------------------

Result<void> Session::take_output(Output& output, uint8_t stream, Payload bytes) {
  if (bytes.size() > output.window_bytes)
    return fail("{} bytes for {}, more than its window", bytes.size(), name_of(stream));
  output.window_bytes -= static_cast<uint32_t>(bytes.size());
  if (output.closed) {
    output.owed_bytes += static_cast<uint32_t>(bytes.size());
    return {};
  }
  output.waiting.insert(output.waiting.end(), bytes.begin(), bytes.end());
  pass_output(output, stream);
  return {};
}

// Writes as much as the caller's stream takes.
void Session::pass_output(Output& output, uint8_t stream) {
  if (output.closed) return;
  while (output.passed_on < output.waiting.size()) {
    const ssize_t put = output.stream.write(Payload(output.waiting).subspan(output.passed_on));
    if (put == -EAGAIN) break;
    if (put < 0) return close_output(output, stream, static_cast<int>(-put));
    output.passed_on += static_cast<size_t>(put);
    output.owed_bytes += static_cast<uint32_t>(put);
  }
  const bool blocked = output.passed_on < output.waiting.size();
  if (!blocked) {
    output.waiting.clear();
    output.passed_on = 0;
  } else if (output.passed_on >= WICK_WINDOW_BYTES) {
    output.waiting.erase(output.waiting.begin(),
                         output.waiting.begin() + static_cast<std::ptrdiff_t>(output.passed_on));
    output.passed_on = 0;
  }
  if (output.watch.active()) output.watch.set_events(blocked ? uint32_t{EPOLLOUT} : 0);
  give_credit();
}

// Stops writing one of the command's outputs to the caller's stream. The command gets SIGPIPE at
// its next write, as if it ran on the host.
void Session::close_output(Output& output, uint8_t stream, int error) {
  if (error != EPIPE) {
    spdlog::warn("{}: cannot write the command's output: {}", name_of(stream),
                 std::strerror(error));
    output_error_ = error;
    if (end_) end_->output_error = error;
  }
  output.closed = true;
  output.watch.reset();
  output.stream = {};
  output.owed_bytes += static_cast<uint32_t>(output.waiting.size() - output.passed_on);
  output.waiting.clear();
  output.passed_on = 0;
  if (state_ == State::kRunning) send(WICK_FRAME_EOF, stream);
  give_credit();
}

void Session::give_credit() {
  if (state_ != State::kRunning) return;
  for (const uint8_t stream : {WICK_STDOUT, WICK_STDERR}) {
    Output& output = outputs_[stream];
    if (output.owed_bytes < kCreditBytes || to_guest_.size() > kMaxWaitingBytes) continue;
    const uint32_t bytes = std::exchange(output.owed_bytes, 0);
    output.window_bytes += bytes;
    send(WICK_FRAME_CREDIT, stream, as_bytes(&bytes, sizeof(bytes)));
  }
}

void Session::flush() {
  const auto deadline = std::chrono::steady_clock::now() + kFlushTimeout;
  for (const uint8_t stream : {WICK_STDOUT, WICK_STDERR}) {
    Output& output = outputs_[stream];
    for (pass_output(output, stream); !output.waiting.empty(); pass_output(output, stream)) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      pollfd wanted{.fd = output.stream.fd(), .events = POLLOUT, .revents = 0};
      if (left.count() <= 0 || ::poll(&wanted, 1, static_cast<int>(left.count())) <= 0) break;
    }
    if (!output.waiting.empty()) close_output(output, stream, ETIMEDOUT);
  }
}

// --- input ------------------------------------------------------------------

// Reads input while there is credit and the guest takes its frames. Otherwise removes the watch. A
// watch without events would not be enough, because epoll always reports EPOLLHUP.
void Session::watch_input() {
  if (!input_.valid() || state_ != State::kRunning || input_refused_) return;
  if (input_credit_ <= 1 || to_guest_.size() > kMaxWaitingBytes) {
    input_watch_.reset();
  } else if (input_always_ready_) {
    read_input();
  } else if (!input_watch_.active()) {
    auto watch = loop_.watch(input_.fd(), EPOLLIN, [this](uint32_t) { read_input(); });
    input_always_ready_ = !watch;
    if (watch)
      input_watch_ = *std::move(watch);
    else
      read_input();
  }
}

void Session::read_input() {
  std::array<std::byte, WICK_MAX_PAYLOAD_BYTES> bytes;
  // `typed` may add a byte that it has kept.
  const size_t room = std::min<size_t>(bytes.size(), input_credit_) - 1;
  const ssize_t got = input_.read(std::span(bytes).first(room));
  if (got == -EAGAIN) return;
  if (got == -EIO) {
    input_watch_.reset();
    input_refused_ = true;
    return;
  }
  if (got <= 0) {
    input_watch_.reset();
    input_ = {};
    return send(WICK_FRAME_EOF, WICK_STDIN);
  }
  const Payload typed = std::span(bytes).first(static_cast<size_t>(got));
  if (events_.typed)
    events_.typed(typed);
  else
    type(typed);
  if (!input_always_ready_) return watch_input();
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) watch_input();
  });
}

void Session::retry_input() {
  input_refused_ = false;
  watch_input();
}

void Session::type(Payload input) {
  if (state_ != State::kRunning || input.empty()) return;
  input_credit_ -= static_cast<uint32_t>(std::min<size_t>(input.size(), input_credit_));
  send(WICK_FRAME_DATA, WICK_STDIN, input);
}

bool Session::send_signal(int number) {
  if (state_ != State::kRunning) return false;
  const auto value = static_cast<uint32_t>(number);
  send(WICK_FRAME_SIGNAL, 0, as_bytes(&value, sizeof(value)));
  return true;
}

void Session::resize(console::Size size) {
  const std::array<uint16_t, 2> value = {size.columns, size.rows};
  if (state_ == State::kRunning) send(WICK_FRAME_RESIZE, 0, as_bytes(&value, sizeof(value)));
}

// --- to the guest -----------------------------------------------------------

void Session::send(wick_frame_type type, uint8_t stream, Payload payload) {
  append_frame(to_guest_, type, stream, payload);
  // The frames are not given to the console here, because this call may come from the console while
  // it serves the same queue.
  input_wanted();
}

void Session::input_wanted() {
  if (drain_posted_.exchange(true)) return;
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    drain_posted_ = false;
    drain();
  });
}

void Session::hold_guest_input(bool held) {
  held_ = held;
  if (!held) input_wanted();
}

void Session::drain() {
  if (guest_ == nullptr || held_ || to_guest_.empty()) return;
  const size_t taken = guest_->input(to_guest_);
  to_guest_.erase(to_guest_.begin(), to_guest_.begin() + static_cast<std::ptrdiff_t>(taken));
  give_credit();
  watch_input();
}

}  // namespace wick::guest
