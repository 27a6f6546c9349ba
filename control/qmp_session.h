// One client of QMP (QEMU QMP specification): takes the client's bytes and returns lines of text.
// It does not access the socket itself. Each client negotiates for itself. Its commands are
// executed one after the other and answered in order, even if a command answers only after
// run_one() has returned.
//
// JsonStream bounds what a client can send. The owner must not read from the client while
// has_work(). After kMaxFaults faults in a row the session is finished(), because the client does
// not speak QMP.
//
// Thread rule: the main loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "control/context.h"
#include "control/json_stream.h"
#include "control/qmp_command.h"

namespace wick::control {

// Returns the version for the greeting and for query-version.
Json version(const Context& context);

class QmpSession {
 public:
  static constexpr int kMaxFaults = 64;

  struct Events {
    std::function<void(std::string_view text)> send = {};
    // Called when a command has answered after the return of run_one(). The owner then calls
    // run_one() again.
    std::function<void()> ready = {};
  };

  // Sends the greeting.
  QmpSession(Context& context, Events events);
  QmpSession(const QmpSession&) = delete;
  QmpSession& operator=(const QmpSession&) = delete;

  void receive(std::string_view bytes);
  // Executes at most one command. Returns true if run_one() must be called again.
  bool run_one();
  // Returns true if there may be input that has not been executed.
  bool has_work() const { return work_ || waiting_; }
  bool finished() const { return faults_ >= kMaxFaults; }

  // Sends an event, if the client has negotiated.
  void send_event(const Json& event);

 private:
  void execute(const Json& request);
  void start(const qmp::Command& command, const Json& arguments, std::optional<Json> id);
  std::expected<void, qmp::CommandError> negotiate(const Json& arguments);
  void reply(const qmp::Answer& answer, const std::optional<Json>& id);
  void send(const Json& message);

  Context& context_;
  const Events events_;
  JsonStream stream_;
  bool negotiated_ = false;
  bool work_ = false;     // true: the stream may have a complete value
  bool waiting_ = false;  // true: a command has not answered yet
  int faults_ = 0;        // the number of faults in a row
  // Expires with the session, for answers that come later.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::control
