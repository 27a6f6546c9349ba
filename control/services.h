// STAND-IN, to be replaced by the QMP helper's header when the branches are merged. The services of
// a running machine: QMP and the human monitor.
//
// Thread rule: the main loop's thread.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "base/event_loop.h"
#include "base/listener.h"
#include "base/result.h"
#include "vmm/machine.h"

namespace wick::control {

struct ServiceConfig {
  enum class Kind { kQmp, kMonitor };
  Kind kind = Kind::kQmp;
  std::optional<StreamAddress> address = {};  // nullopt: standard input and output
};

struct Hooks {};

class Services {
 public:
  static Result<std::unique_ptr<Services>> start(EventLoop&, vmm::Machine&,
                                                 std::span<const ServiceConfig>, Hooks = {}) {
    return std::make_unique<Services>();
  }
};

}  // namespace wick::control
