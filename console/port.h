// What every console back end has in common: the transcript, the optional copy
// of it in a file, and moving bytes between the guest and whoever is at the
// host's end. The kinds of back end (open.h) differ only in who that is.
//
// Output: a byte of the guest goes into the transcript and, if it is the first
// for a while, arms a timer; the loop then hands over the whole burst at once.
// So a byte costs the guest a few instructions, and costs the host one
// write(2) per millisecond at most. A reader that falls more than 64 KiB
// behind loses the oldest bytes, and the log says how many.
//
// Thread rule: as Backend; the calls for hosts on the loop's thread.
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
#include "console/sink.h"
#include "console/transcript.h"

namespace wick::console {

class Port final : public Backend {
 public:
  // Who is at the host's end: lets clients in, and hears of them. May join()
  // and part() from any call.
  class Host {
   public:
    virtual ~Host() = default;
    // Bytes from the joined stream, usually for push_input().
    virtual void received(std::span<const std::byte> bytes) = 0;
    // The stream will deliver nothing more; the output goes on.
    virtual void input_ended() {}
    // read(2) failed with EIO. True: only for now, because the terminal belongs
    // to another process group (a shell's), and the host held the input.
    virtual bool input_is_elsewhere() { return false; }
    // The stream takes nothing more and is closed, for the reason `error` (an
    // errno value, EPIPE for one that left); the input goes on.
    virtual void output_ended(int error) = 0;
  };

  // `name` says where the port leads, for people: "unix:serial.socket". The
  // file at `log_path`, unless that is empty, is truncated and gets a copy of
  // all output. The loop must outlive the port.
  static Result<std::unique_ptr<Port>> create(EventLoop& loop, std::string name,
                                              const std::string& log_path);
  ~Port() override;

  void connect(Guest& guest) override;
  void disconnect() override;
  void write(std::span<const std::byte> bytes) override;
  void input_wanted() override;
  // Waits at most two seconds for readers, and says what they did not take.
  void flush() override;

  // Any thread.
  const Transcript& transcript() const { return transcript_; }
  const std::string& name() const { return name_; }

  // For hosts, and for who makes one.
  void set_host(std::unique_ptr<Host> host) { host_ = std::move(host); }
  // The host's end is now these; either may be invalid, for none.
  void join(Stream input, Stream output);
  // Nobody is there any more. What is already on its way in still counts.
  void part();
  bool joined() const { return input_.valid() || output_.sink.stream().valid(); }
  // While held, nothing is read from the stream.
  void hold_input(bool held);
  void push_input(std::span<const std::byte> bytes);
  void push_break();
  void resize(Size size);

 private:
  // A reader of the transcript.
  struct Output {
    Sink sink;
    EventLoop::Watch watch = {};  // for room when blocked, for its end always
  };

  Port(EventLoop& loop, std::string name, EventFd room);
  void open_output(Output& output, Stream stream);
  void close_output(Output& output, int error);
  void pump_output();
  bool pump(Output& output);
  void flush(Output& output, std::chrono::steady_clock::time_point deadline);
  void read_input();
  void watch_input();

  EventLoop& loop_;
  const std::string name_;
  Transcript transcript_;

  // Any thread may arm and signal these.
  EventLoop::Timer output_timer_;
  EventFd room_;  // the guest has room again, or a file has more

  // Owned by the loop's thread.
  EventLoop::Watch room_watch_;
  std::string log_path_;
  Output log_;
  Output output_;
  InputQueue queue_;
  Guest* guest_ = nullptr;
  std::optional<Size> size_;
  Stream input_;
  EventLoop::Watch input_watch_;
  bool input_always_ready_ = false;  // a file: epoll will not have it
  bool input_held_ = false;
  RateLimit drop_warning_;
  std::unique_ptr<Host> host_;
};

}  // namespace wick::console
