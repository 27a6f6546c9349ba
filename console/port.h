// The part that all console back ends share: the transcript, the optional log file, and the
// transfer of bytes between the guest and the host's end. The kinds of back end (open.h) differ
// only in the class derived from Host.
//
// Output: a byte of the guest goes into the transcript and, if no timer is armed,
// arms a timer. When the timer expires, the loop writes the whole burst at once. So a byte costs
// the guest a few instructions, and bursts are written at most once per millisecond. A reader that
// falls more than 64 KiB behind loses the oldest bytes, and a warning gives their number.
//
// Thread rule: as for Backend; the calls for hosts are made on the loop's thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "console/backend.h"
#include "console/input_queue.h"
#include "console/log_file.h"
#include "console/sink.h"
#include "console/transcript.h"

namespace wick::console {

class Port final : public Backend {
 public:
  // The host's end of the port: accepts clients and handles their events. It may call
  // attach() and detach() from any of these functions.
  class Host {
   public:
    virtual ~Host() = default;
    // Gets bytes read from the attached stream, usually for push_input().
    virtual void received(std::span<const std::byte> bytes) = 0;
    // The input stream has ended; the output continues.
    virtual void input_ended() {}
    // Called when read(2) failed with EIO. Returns true if the failure is temporary, because
    // the process is in the background of its terminal; the host has then called
    // hold_input().
    virtual bool in_background() { return false; }
    // The output stream failed with `error` (an errno value; EPIPE if the reader is
    // gone) and has been closed; the input continues.
    virtual void output_ended(int error) = 0;
  };

  // `name` is shown to users, for example "unix:serial.socket". The file of `log`, if it has
  // one, is truncated and gets a copy of all output. When the file has reached its limit, a new
  // file is begun (begin_new_log()); a file may exceed the limit by at most
  // Transcript::kKeptBytes. The loop must outlive the port.
  static Result<std::unique_ptr<Port>> create(EventLoop& loop, std::string name,
                                              const LogFile& log);
  ~Port() override;

  void connect(Guest& guest) override;
  void disconnect() override;
  void write(std::span<const std::byte> bytes) override;
  void input_wanted() override;
  void hold_guest_input(bool held) override;
  // Waits at most two seconds for all readers together, and logs how much each did not take.
  void flush() override;

  // May be called on any thread.
  const Transcript& transcript() const { return transcript_; }
  // For a new start of the machine.
  void forget_panic() { transcript_.forget_panic(); }
  const std::string& name() const { return name_; }

  // The following functions are for the host, and for the function that makes it (console/open.h).

  void set_host(std::unique_ptr<Host> host) { host_ = std::move(host); }
  // Replaces the streams of the host's end. An invalid stream means that there is none.
  void attach(Stream input, Stream output);
  // Closes both streams. Input that the kernel has already received is read first.
  void detach();
  bool attached() const { return input_.valid() || output_.sink.stream().valid(); }
  // While input is held, nothing is read from the stream.
  void hold_input(bool held);
  void push_input(std::span<const std::byte> bytes);
  void push_break();
  void resize(Size size);

 private:
  // A reader of the transcript.
  struct Output {
    Sink sink;
    EventLoop::Watch watch = {};  // EPOLLOUT while blocked; EPOLLHUP and EPOLLERR always
  };

  Port(EventLoop& loop, std::string name, EventFd room);
  void open_output(Output& output, Stream stream);
  void close_output(Output& output, int error);
  void pump_output();
  bool pump(Output& output);
  void flush(Output& output, std::chrono::steady_clock::time_point deadline);
  void limit_log();
  void read_input();
  void watch_input();

  EventLoop& loop_;
  const std::string name_;
  Transcript transcript_;

  // Armed and signalled by any thread.
  EventLoop::Timer output_timer_;
  EventFd room_;  // signalled when the guest has room, or the input file has more

  // Owned by the loop's thread.
  EventLoop::Watch room_watch_;
  LogFile log_file_;
  uint64_t log_start_ = 0;  // where the log's current file begins, as a transcript position
  bool log_warned_ = false;
  Output log_;
  Output output_;
  InputQueue queue_;
  Guest* guest_ = nullptr;
  std::optional<Size> size_;
  Stream input_;
  EventLoop::Watch input_watch_;
  bool input_always_ready_ = false;  // the input is a regular file, which epoll refuses
  bool input_held_ = false;
  RateLimit drop_warning_;
  std::unique_ptr<Host> host_;
};

}  // namespace wick::console
