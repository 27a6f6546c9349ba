// One virtual machine: built from a MachineConfig, run once: through all of its
// resets (board.h) with the same peripherals (peripherals.h) to its ending.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "vmm/config.h"
#include "vmm/run_stats.h"

namespace wick {

// How a run ended; the exit statuses of the interface, "How a run ends".
enum class Ending {
  kPoweredOff,   // 0: ACPI S5
  kRebooted,     // 0: reset through the keyboard controller, ACPI or the chipset;
                 // 3 if the guest had been silent
  kHalted,       // 0: every vCPU in HLT with interrupts off; 3 if it had been silent
  kHostFailed,   // 1: a call to the host failed during the run
  kPanicked,     // 3
  kTripleFault,  // 4
  kTimeout,      // 5
  kKvmError,     // 6: KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_FAIL_ENTRY
  kSignal,       // 128 + N
  kQuit,         // 0: the user left by the terminal's escape key
};

struct RunReport {
  Ending ending = Ending::kPoweredOff;
  int signal = 0;                          // for kSignal
  std::string detail;                      // what exactly happened, for the last line; or empty
  bool silent = false;                     // nothing on any console since the guest's last start
  bool registers_were_reset = false;       // by KVM, after a triple fault
  std::vector<std::string> console_lines;  // the last 200 of the first console that has any
  struct Cpu {                             // texts of several lines
    std::string registers;
    std::string last_exits;  // before the one that ended the run
  };
  std::vector<Cpu> cpus;
  RunStats stats;  // where MachineConfig asks for it
};

class Machine {
 public:
  // Builds everything: a machine that was created can run. `main_loop` carries
  // the consoles and is run by run(); it must outlive the machine.
  static Result<std::unique_ptr<Machine>> create(const MachineConfig& config, EventLoop& main_loop);
  virtual ~Machine() = default;

  // The kernel's command line, as the guest gets it.
  virtual const std::string& cmdline() const = 0;

  // Runs the guest, and `main_loop` on the calling thread, until the guest ends
  // or end() is called. When it returns the vCPUs have stopped and the disks
  // are flushed. Once.
  virtual RunReport run() = 0;

  // As a person would. On the main loop's thread.
  virtual void press_power_button() = 0;

  // Disks whose files have grown or shrunk tell the guest. On the main loop's thread.
  virtual void update_disk_sizes() = 0;

  // Asks the run to end; the first ending wins. Any thread, also before run().
  virtual void end(Ending ending, int signal = 0) = 0;
};

}  // namespace wick
