// wick's side of one command in a guest: the host's end of the port to the guest's init
// (guest/protocol.h). It passes the caller's streams to the command and back, and learns how the
// command ended. The guest is hostile: a breach of the protocol ends the session, and the bytes
// that are kept for a stream are bounded by its window.
//
// Thread rule: as console::Backend. The virtio console calls write() on the loop; the other
// functions are also called on the loop, or while the loop does not run.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/stream.h"
#include "console/backend.h"
#include "guest/frames.h"

namespace wick::guest {

// How a session ended.
struct CommandEnd {
  enum class Kind {
    kExited,      // the command ended; `exit` tells how
    kNotStarted,  // the command could not be started; `status` is 126 or 127
    kFailed,      // the guest's init failed, or broke the protocol
  };
  Kind kind = Kind::kFailed;
  wick_exit exit = {};
  int status = 0;        // kExited: the exit status, or 128+N for signal N
  std::string message;   // for kNotStarted and kFailed; may contain any characters
  int output_error = 0;  // errno if the caller's stream failed, but not EPIPE
  // Why copies that the plan asked for failed. The texts come from the guest and may contain any
  // characters.
  std::vector<std::string> copy_errors = {};
};

class Session final : public console::Backend {
 public:
  // The caller's streams. If `in` is not valid, the input is empty. If `out` or `err` is not valid,
  // its output is dropped.
  struct Streams {
    Stream in, out, err;
  };
  struct Events {
    std::function<void()> started;  // the command runs
    // Called once, when the command has ended and all output has been passed on.
    std::function<void()> ended;
    // Gets what was read from `in`, and calls type() with the part that is for the command. If
    // `typed` is empty, all input is for the command.
    std::function<void(Payload)> typed;
  };

  // Reads nothing from `in` before the command has started. The loop must outlive the session.
  static Result<std::unique_ptr<Session>> create(EventLoop& loop, Streams streams, Events events);
  ~Session() override;

  // Sends input to the command: at most the bytes that `typed` got, and one byte that `typed` had
  // kept before.
  void type(Payload input);
  // Sends a signal to the command's process group. Returns false if the command does not run.
  bool send_signal(int number);
  // Gives the command's terminal a new size.
  void resize(console::Size size);
  // Reads input again, after a read was refused with EIO because wick was in the background of its
  // terminal.
  void retry_input();

  // Returns how the command ended; nullopt before its end.
  const std::optional<CommandEnd>& end() const { return end_; }

  void connect(console::Guest& guest) override { guest_ = &guest; }
  void disconnect() override { guest_ = nullptr; }
  void write(std::span<const std::byte> bytes) override;
  void input_wanted() override;
  void hold_guest_input(bool held) override;
  // Passes on what the command has written, as far as that is possible within two seconds.
  void flush() override;

 private:
  enum class State { kBooting, kGreeted, kRunning, kEnded };

  // What the command has written and the caller has not read yet.
  struct Output {
    Stream stream;
    EventLoop::Watch watch = {};
    std::vector<std::byte> waiting = {};
    size_t passed_on = 0;                       // bytes of `waiting` that were written
    uint32_t owed_bytes = 0;                    // credit that the guest must still get back
    uint32_t window_bytes = WICK_WINDOW_BYTES;  // bytes that the guest may send now
    bool closed = false;                        // the caller no longer reads this stream
  };

  Session(EventLoop& loop, Streams streams, Events events);
  Result<void> handle(const wick_frame& frame, Payload payload);
  Result<void> handle_exit(Payload payload);
  Result<void> take_output(Output& output, uint8_t stream, Payload bytes);
  void pass_output(Output& output, uint8_t stream);
  void close_output(Output& output, uint8_t stream, int error);
  void finish(CommandEnd end);
  void tell_end();
  void watch_outputs();
  void give_credit();
  void watch_input();
  void read_input();
  void send(wick_frame_type type, uint8_t stream, Payload payload = {});
  void drain();

  EventLoop& loop_;
  const Events events_;

  // Owned by the loop's thread.
  console::Guest* guest_ = nullptr;
  State state_ = State::kBooting;
  FrameReader reader_;
  std::array<Output, 3> outputs_;  // by wick_stream; the first is not used
  Stream input_;
  EventLoop::Watch input_watch_;
  bool input_always_ready_ = false;  // `in` is a regular file, which epoll refuses
  bool input_refused_ = false;       // reading failed with EIO; see retry_input()
  uint32_t input_credit_ = WICK_WINDOW_BYTES;
  std::vector<std::byte> to_guest_;  // frames that the guest has not taken yet
  std::optional<CommandEnd> end_;
  bool told_ = false;
  int output_error_ = 0;                  // for CommandEnd
  std::vector<std::string> copy_errors_;  // for CommandEnd
  bool held_ = false;                     // the guest is paused

  std::atomic<bool> drain_posted_{false};
  // Expires with the session, for functions that are posted to the loop.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::guest
