// What a run offers besides the guest's consoles: QMP, human monitors, a gdb server, and cores.
//
// Thread rule: the main loop's thread, or before that loop runs.
#pragma once

#include <memory>

#include "base/event_loop.h"
#include "base/result.h"
#include "cli/options.h"
#include "control/registry.h"
#include "control/services.h"
#include "debug/core.h"
#include "debug/gdb_server.h"
#include "vmm/machine.h"

namespace wick::cli {

class RunServices {
 public:
  // Those that the user wants, and those that the machine's entry has for `wick` itself; `entry`
  // may be nullptr. The loop and the machine must outlive the services.
  static Result<std::unique_ptr<RunServices>> start(EventLoop& loop, vmm::Machine& machine,
                                                    const RunOptions& options,
                                                    const control::MachineEntry* entry);

 private:
  RunServices(EventLoop& loop, vmm::Machine& machine) : loop_(loop), machine_(machine) {}
  void write_core(const control::DumpRequest& request,
                  std::function<void(uint64_t, uint64_t)> progress,
                  std::function<void(Result<void>)> done);

  EventLoop& loop_;
  vmm::Machine& machine_;
  std::unique_ptr<debug::CoreWriter> core_;  // the last one
  std::unique_ptr<control::Services> services_;
  std::unique_ptr<debug::GdbServer> gdb_;
};

}  // namespace wick::cli
