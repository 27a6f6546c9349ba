// What a machine reports while it runs, for control/ and debug/. The names are those of QMP's
// events (QEMU QMP Reference Manual).
#pragma once

#include <cstdint>
#include <string>

namespace wick::vmm {

enum class RunState {
  kRunning,
  kPaused,     // by a request of the host
  kDebug,      // by a breakpoint, for gdb
  kIoError,    // by an error of a disk whose policy is to stop
  kPanicked,   // the guest's kernel has reported a panic
  kSuspended,  // by the guest: it sleeps in S3 (ACPI 6.4, 7.4.2.4)
};

struct MachineEvent {
  enum class Kind {
    kStop,
    kResume,
    kReset,      // `guest`, `reason`
    kShutdown,   // `guest`, `reason`; the machine's last event
    kPowerdown,  // the power button was pressed
    kSuspend,
    kSuspendDisk,  // before kShutdown
    kWakeup,
    kGuestPanicked,
    kBalloonChange,   // `value`: the guest's RAM without the balloon, in bytes
    kBlockIoError,    // `device`, `operation`, `action`, `reason`, `no_space`
    kRxFilterChange,  // `device`
    kDeviceDeleted,   // `device`
    kTrayMoved,       // `device`; `value` is 1 if the tray is open
  };
  Kind kind = Kind::kStop;
  std::string device = {};     // its id: "vda", "net0"
  bool guest = false;          // the guest caused it
  std::string reason = {};     // of kReset and kShutdown a QMP ShutdownCause, else an error's text
  std::string operation = {};  // "read" or "write"
  std::string action = {};     // a QMP BlockErrorAction: "report", "ignore" or "stop"
  bool no_space = false;
  uint64_t value = 0;
};

}  // namespace wick::vmm
