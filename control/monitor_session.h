// One client of the human monitor: takes its bytes and returns prompts and
// answers. It does not access the socket itself.
// Lines are executed one after the other. There is no line editing: `wick monitor` has it, and a
// terminal has its own.
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
    // Called when a command has answered after run_one() returned: call run_one() again.
    std::function<void()> ready = {};
  };

  // Sends a greeting and the prompt.
  MonitorSession(Context& context, Events events);

  // The owner stops reading while has_work().
  void receive(std::string_view bytes);
  // Executes at most one line. Returns whether to call again.
  bool run_one();
  bool has_work() const { return waiting_ || input_.find('\n') != std::string::npos; }

 private:
  Hmp hmp_;
  const Events events_;
  std::string input_;
  bool overlong_ = false;  // the rest of a line that was too long is skipped
  bool waiting_ = false;   // for a command that answers later
};

}  // namespace wick::control
