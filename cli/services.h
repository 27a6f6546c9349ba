// The services of a run besides the guest's consoles: QMP, human monitors, a gdb server, and cores.
//
// Thread rule: the main loop's thread, or before that loop runs.
#pragma once

#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "cli/options.h"
#include "control/record.h"
#include "control/registry.h"
#include "control/services.h"
#include "debug/core.h"
#include "debug/gdb_server.h"
#include "vmm/machine.h"

namespace wick::cli {

class RunServices {
 public:
  // Starts the services that the user wants, and those on the sockets of the machine's entry, which
  // other wick commands use. `entry` may be nullptr. The loop, the machine and the options must
  // outlive the services.
  static Result<std::unique_ptr<RunServices>> start(EventLoop& loop, vmm::Machine& machine,
                                                    const RunOptions& options,
                                                    const control::MachineEntry* entry);

  // Returns the user's services that are on sockets, with the ports that the kernel has chosen.
  std::vector<control::MachineRecord::Service> listed() const;

 private:
  RunServices(EventLoop& loop, vmm::Machine& machine, const RunOptions& options)
      : loop_(loop), machine_(machine), options_(options) {}
  void write_core(const control::DumpRequest& request,
                  std::function<void(uint64_t, uint64_t)> progress,
                  std::function<void(Result<void>)> done);

  EventLoop& loop_;
  vmm::Machine& machine_;
  const RunOptions& options_;
  std::unique_ptr<debug::CoreWriter> core_;  // the last core; nullptr: none yet
  std::unique_ptr<control::Services> services_;
  std::unique_ptr<debug::GdbServer> gdb_;
};

}  // namespace wick::cli
