// One client of the human monitor: takes the client's bytes, and returns prompts and answers. It
// does not access the socket itself. Lines are executed one after the other. There is no line
// editing, because `wick monitor` and terminals have their own.
//
// Thread rule: the main loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "control/hmp.h"

namespace wick::control {

class MonitorSession {
 public:
  struct Events {
    std::function<void(std::string_view text)> send = {};
    // Called when a command has answered after the return of run_one(). The owner then calls
    // run_one() again.
    std::function<void()> ready = {};
  };

  // Sends a greeting and the prompt.
  MonitorSession(Context& context, Events events);

  // Takes bytes from the client. The owner must not read more while has_work().
  void receive(std::string_view bytes);
  // Executes at most one line. Returns true if run_one() must be called again.
  bool run_one();
  bool has_work() const { return waiting_ || input_.find('\n') != std::string::npos; }

 private:
  Hmp hmp_;
  const Events events_;
  std::string input_;
  bool overlong_ = false;  // the rest of a line that was too long is skipped
  bool waiting_ = false;   // true: a command has not answered yet
};

}  // namespace wick::control
