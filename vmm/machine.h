// One virtual machine, built from a MachineConfig. It can run only once. A reset during the run
// replaces the board (board.h) and keeps the peripherals (peripherals.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "vmm/config.h"
#include "vmm/hardware.h"
#include "vmm/inspector.h"
#include "vmm/machine_event.h"
#include "vmm/run_stats.h"

namespace wick::vmm {

// How a run ended. The number is wick's exit status (INTERFACE, "How a run ends").
enum class Ending {
  kPoweredOff,   // 0: ACPI S5
  kRebooted,     // 0: reset through the keyboard controller, ACPI or the chipset;
                 // 3 if the guest had written nothing (RunReport::silent)
  kHalted,       // 0: every vCPU in HLT with interrupts off; 3 if the guest had written nothing
  kHostFailed,   // 1: a call to the host failed during the run
  kPanicked,     // 3
  kTripleFault,  // 4
  kTimeout,      // 5
  kKvmError,     // 6: KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_FAIL_ENTRY
  kSignal,       // 128 + N
  kQuit,         // 0: the user left by the terminal's escape key, or by "quit" (QMP)
  kDebugExit,    // an odd number from the guest (devices/debug_exit.h)
};

struct RunReport {
  Ending ending = Ending::kPoweredOff;
  int signal = 0;                     // for kSignal: the number of the signal
  uint32_t debug_exit_value = 0;      // for kDebugExit, as the guest wrote it
  std::string detail;                 // details for the last line; may be empty
  bool multiboot = false;             // the kernel is a Multiboot kernel, so not Linux
  bool silent = false;                // no output on any console since the last start
  bool registers_were_reset = false;  // KVM has reset the registers after the triple fault
  // The last 200 lines of the first console that has output.
  std::vector<std::string> console_lines;
  struct Cpu {  // each field is a text of several lines
    std::string registers;
    std::string last_exits;  // without the exit that ended the run
  };
  std::vector<Cpu> cpus;
  RunStats stats;  // empty unless MachineConfig::stats
};

class Machine {
 public:
  // Builds the whole machine, ready to run. `main_loop` serves the consoles and must outlive the
  // machine; run() runs the loop.
  static Result<std::unique_ptr<Machine>> create(const MachineConfig& config, EventLoop& main_loop);
  virtual ~Machine() = default;

  // The guest kernel's command line.
  virtual const std::string& cmdline() const = 0;

  // Runs the guest, and `main_loop` on the calling thread, until the guest ends or end() is
  // called. On return the vCPUs have stopped and the disks are flushed. May be called only once.
  virtual RunReport run() = 0;

  // Presses the virtual power button. On the main loop's thread.
  virtual void press_power_button() = 0;

  // Announces changed sizes of disk images to the guest. On the main loop's thread.
  virtual void update_disk_sizes() = 0;

  // Requests the end of the run; the first ending wins. Any thread, also before run().
  virtual void end(Ending ending, int signal = 0) = 0;

  // -- Control, while run() runs and on the main loop's thread. --

  virtual const MachineConfig& config() const = 0;
  virtual RunState state() const = 0;
  // Stops the vCPUs, finishes the requests in flight, and then stops the guest's clocks and all
  // writes of devices to its memory. Calls `done` when the machine is paused; at once if it is
  // paused already.
  virtual void pause(RunState why = RunState::kPaused, std::function<void()> done = {}) = 0;
  // Ends a pause. The guest's clocks continue where they stopped.
  virtual void resume() = 0;
  // Resets the machine, whatever --on-reboot says.
  virtual void reset() = 0;
  virtual Result<void> inject_nmi() = 0;
  virtual Result<void> wake_up() = 0;

  // Calls `observer` for each event of the machine, until the Subscription is destroyed.
  class Subscription {
   public:
    Subscription() = default;
    explicit Subscription(std::function<void()> end) : end_(std::move(end)) {}
    Subscription(Subscription&& other) noexcept : end_(std::exchange(other.end_, {})) {}
    Subscription& operator=(Subscription&& other) noexcept {
      if (auto old = std::exchange(end_, std::exchange(other.end_, {}))) old();
      return *this;
    }
    ~Subscription() {
      if (end_) end_();
    }

   private:
    std::function<void()> end_;
  };
  using Observer = std::function<void(const MachineEvent&)>;
  [[nodiscard]] virtual Subscription subscribe(Observer observer) = 0;

  virtual Inspector& inspector() = 0;
  virtual Hardware& hardware() = 0;
};

}  // namespace wick::vmm
