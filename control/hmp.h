// The human monitor: one line in, text out (QEMU's monitor, "HMP"). Scripts read the answers, so
// they have QEMU's layouts. Also used by human-monitor-command and by gdb's `monitor`.
//
// A table has the arguments and the function of each command (hmp_commands.cc). Lines of answers
// end in \r\n, as in QEMU.
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

class Hmp {
 public:
  static constexpr size_t kMaxLineBytes = 4096;

  explicit Hmp(Context& context, uint32_t cpu = 0) : context_(context), cpu_(cpu) {}
  Hmp(const Hmp&) = delete;
  Hmp& operator=(const Hmp&) = delete;

  // Calls `done` once with the whole answer, perhaps later, and perhaps after this object's end:
  // see alive().
  using Done = std::function<void(const std::string& text)>;
  void execute(std::string_view line, Done done);

  Context& context() const { return context_; }
  // The vCPU that x, info registers and others look at.
  uint32_t cpu() const { return cpu_; }
  void set_cpu(uint32_t cpu) { cpu_ = cpu; }
  // Expires with this object.
  std::weak_ptr<bool> alive() const { return alive_; }

 private:
  Context& context_;
  uint32_t cpu_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::control
