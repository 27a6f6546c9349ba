#include "console/port.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace wick::console {

namespace {

// Long enough to gather a line into one write(2), short enough for an echo to seem
// immediate.
constexpr std::chrono::microseconds kOutputDelay{1000};
constexpr std::chrono::seconds kFlushTimeout{2};
constexpr size_t kChunkBytes = 4096;

}  // namespace

Result<std::unique_ptr<Port>> Port::create(EventLoop& loop, std::string name, const LogFile& log) {
  std::unique_ptr<Port> port(new Port(loop, std::move(name), TRY(EventFd::create())));
  port->output_timer_ = TRY(loop.timer([self = port.get()] { self->pump_output(); }));
  port->room_watch_ = TRY(loop.watch(port->room_.fd(), EPOLLIN, [self = port.get()](uint32_t) {
    self->room_.consume();
    self->queue_.drain();
    self->watch_input();
  }));
  if (!log.path.empty()) {
    port->log_file_ = log;
    port->open_output(port->log_, TRY(Stream::create_file(log.path)));
  }
  return port;
}

Port::Port(EventLoop& loop, std::string name, EventFd room)
    : loop_(loop),
      name_(std::move(name)),
      room_(std::move(room)),
      log_{.sink = Sink(transcript_)},
      output_{.sink = Sink(transcript_)} {}

Port::~Port() = default;

void Port::connect(Guest& guest) {
  guest_ = &guest;
  if (size_) guest.resized(*size_);
  queue_.connect(guest);
  watch_input();
}

void Port::disconnect() {
  guest_ = nullptr;
  queue_.disconnect();
}

void Port::write(std::span<const std::byte> bytes) {
  if (transcript_.append(bytes)) output_timer_.arm(kOutputDelay);
}

void Port::input_wanted() { room_.signal(); }

void Port::attach(Stream input, Stream output) {
  detach();
  input_ = std::move(input);
  input_always_ready_ = false;
  if (output.valid()) open_output(output_, std::move(output));
  watch_input();
}

void Port::detach() {
  input_watch_.reset();
  output_.watch.reset();
  output_.sink.close();
  // Reads the remaining input; the queue keeps what the guest does not take now. The loop is
  // bounded, because a client that shut down only one direction may continue to send.
  std::array<std::byte, kChunkBytes> chunk;
  const Stream input = std::exchange(input_, {});
  for (int i = 0; i < 64 && input.valid(); ++i) {
    const ssize_t got = input.read(chunk);
    if (got <= 0) break;
    host_->received(std::span(chunk).first(static_cast<size_t>(got)));
  }
}

void Port::hold_input(bool held) {
  input_held_ = held;
  watch_input();
}

void Port::hold_guest_input(bool held) {
  queue_.hold(held);
  watch_input();
}

void Port::push_input(std::span<const std::byte> bytes) {
  if (const size_t kept = queue_.push(bytes); kept < bytes.size())
    drop_warning_.warn("{}: the guest does not read its input; {} bytes of it were dropped", name_,
                       bytes.size() - kept);
  queue_.drain();
}

void Port::push_break() {
  queue_.push_break();
  queue_.drain();
}

void Port::resize(Size size) {
  size_ = size;
  if (guest_ != nullptr) guest_->resized(size);
}

// --- output ---------------------------------------------------------------

void Port::open_output(Output& output, Stream stream) {
  const int fd = stream.fd();
  output.sink.open(std::move(stream));
  // epoll refuses a regular file, which needs no watch: a write to it never blocks.
  auto watch = loop_.watch(fd, 0, [this, &output](uint32_t events) {
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
      close_output(output, EPIPE);
    } else {
      pump_output();
    }
  });
  if (watch) output.watch = std::move(*watch);
  pump_output();
}

void Port::close_output(Output& output, int error) {
  output.watch.reset();
  output.sink.close();
  if (&output == &output_) {
    host_->output_ended(error);
  } else {
    spdlog::warn("{}: cannot write the log: {}; the log ends here", log_file_.path,
                 std::strerror(error));
  }
}

void Port::pump_output() {
  // listen() comes first: bytes written during the pumping then arm the timer again.
  transcript_.listen(true);
  const bool log_wants_more = pump(log_);
  const bool output_wants_more = pump(output_);
  if (!log_wants_more && !output_wants_more) transcript_.listen(false);
  limit_log();
}

// Begins a new log file if the current one has reached its limit. The log is a regular file, which
// takes each write as a whole, so no output for the old file is pending.
void Port::limit_log() {
  if (log_file_.limit_bytes == 0 || !log_.sink.stream().valid() ||
      log_.sink.position() - log_start_ < log_file_.limit_bytes)
    return;
  log_start_ = log_.sink.position();
  auto stream = begin_new_log(log_file_.path);
  if (stream) {
    log_.sink.open(*std::move(stream));
  } else if (!std::exchange(log_warned_, true)) {
    // The old file is continued. The next attempt is made when it has grown by its limit again.
    spdlog::warn("the log has reached its limit of {} bytes: {}", log_file_.limit_bytes,
                 stream.error().message());
  }
}

// Writes output that the reader does not have yet. Returns true if pump() must be called again
// after the guest's next byte; false if the reader is gone, or if an event will lead to the next
// call.
bool Port::pump(Output& output) {
  if (!output.sink.stream().valid()) return false;
  const Sink::State state = output.sink.pump();
  if (const uint64_t dropped = output.sink.take_dropped_bytes(); dropped > 0) {
    drop_warning_.warn("{}: too slow for the guest; {} bytes of its output were dropped", name_,
                       dropped);
  }
  if (state == Sink::State::kBroken) {
    close_output(output, output.sink.error());
    return false;
  }
  const bool blocked = state == Sink::State::kBlocked;
  if (output.watch.active()) output.watch.set_events(blocked ? uint32_t{EPOLLOUT} : 0);
  return !blocked || !output.watch.active();
}

void Port::flush() {
  loop_.call([this] {
    const auto deadline = std::chrono::steady_clock::now() + kFlushTimeout;
    flush(log_, deadline);
    flush(output_, deadline);
  });
}

void Port::flush(Output& output, std::chrono::steady_clock::time_point deadline) {
  if (!output.sink.stream().valid()) return;
  const Sink::State state = output.sink.flush(deadline);
  const uint64_t lost = output.sink.take_dropped_bytes() +
                        (state == Sink::State::kBlocked ? output.sink.waiting_bytes() : 0);
  if (lost > 0)
    spdlog::warn("{}: too slow for the guest; {} bytes of its output were dropped", name_, lost);
  if (state == Sink::State::kBroken) close_output(output, output.sink.error());
}

// --- input ----------------------------------------------------------------

// Watches for input while the queue has room for it. While there is no room, the watch is removed
// rather than set to no events, because epoll always reports EPOLLHUP.
void Port::watch_input() {
  if (!input_.valid() || !queue_.connected()) return;
  if (queue_.room() == 0 || input_held_) {
    input_watch_.reset();
  } else if (input_always_ready_) {
    read_input();
  } else if (!input_watch_.active()) {
    auto watch = loop_.watch(input_.fd(), EPOLLIN, [this](uint32_t) { read_input(); });
    if (watch) {
      input_watch_ = std::move(*watch);
    } else {
      input_always_ready_ = true;
      room_.signal();
    }
  }
}

void Port::read_input() {
  std::array<std::byte, kChunkBytes> chunk;
  const ssize_t got = input_.read(std::span(chunk).first(std::min(queue_.room(), chunk.size())));
  if (got == -EAGAIN) return;
  if (got == -EIO && host_->in_background()) return;
  if (got <= 0) {
    input_watch_.reset();
    input_ = {};
    host_->input_ended();
    return;
  }
  host_->received(std::span(chunk).first(static_cast<size_t>(got)));
  if (queue_.room() == 0) input_watch_.reset();
  if (input_always_ready_ && queue_.room() > 0) room_.signal();
}

}  // namespace wick::console
