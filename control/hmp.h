// The human monitor (QEMU's monitor, "HMP"): takes one line and answers with text. Scripts read the
// answers, so these have QEMU's layouts. QMP's human-monitor-command and gdb's `monitor` also
// execute their lines here.
//
// A table has the arguments and the function of each command (hmp_commands.cc). The lines of an
// answer end in \r\n, as in QEMU.
//
// Thread rule: the main loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "control/context.h"

namespace wick::control {

// Returns whether an answer says that its command failed. QMP's human-monitor-command does not
// tell.
bool is_monitor_error(std::string_view answer);

class Hmp {
 public:
  static constexpr size_t kMaxLineBytes = 4096;

  explicit Hmp(Context& context, uint32_t cpu = 0) : context_(context), cpu_(cpu) {}
  Hmp(const Hmp&) = delete;
  Hmp& operator=(const Hmp&) = delete;

  // Executes a command. Calls `done` once with the whole answer. `done` may be called later, even
  // after the end of this object; alive() tells whether the object still exists.
  using Done = std::function<void(const std::string& text)>;
  void execute(std::string_view line, Done done);

  Context& context() const { return context_; }
  // Returns the vCPU that the commands x, info registers and others inspect.
  uint32_t cpu() const { return cpu_; }
  void set_cpu(uint32_t cpu) { cpu_ = cpu; }
  // Returns a pointer that expires with this object.
  std::weak_ptr<bool> alive() const { return alive_; }

 private:
  Context& context_;
  uint32_t cpu_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::control
