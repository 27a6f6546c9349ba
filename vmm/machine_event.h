// The events that a machine reports while it runs, for control/ and debug/. They have the names of
// QMP's events (QEMU QMP Reference Manual).
#pragma once

#include <cstdint>
#include <string>

namespace wick::vmm {

enum class RunState {
  kRunning,
  kPaused,     // stopped at a request of the host
  kDebug,      // stopped for gdb by a breakpoint or after a step
  kIoError,    // stopped by an error of a disk whose policy is kStop
  kPanicked,   // the guest's kernel has reported a panic
  kSuspended,  // the guest sleeps in S3 (ACPI 6.5, 7.4.2.4)
};

struct MachineEvent {
  // Names in backquotes are the fields that an event of this kind has.
  enum class Kind {
    kStop,
    kResume,
    kReset,      // `guest`, `reason`
    kShutdown,   // `guest`, `reason`; the machine's last event
    kPowerdown,  // the power button was pressed
    kSuspend,
    kSuspendDisk,  // the guest powers off in S4; kShutdown follows
    kWakeup,
    kGuestPanicked,
    kBalloonChange,   // `value`: the guest's RAM without the balloon, in bytes
    kBlockIoError,    // `device`, `operation`, `action`, `reason`, `no_space`
    kRxFilterChange,  // `device`
    kDeviceDeleted,   // `device`
    kTrayMoved,       // `device`; `value` is 1 if the tray is open
  };
  Kind kind = Kind::kStop;
  std::string device = {};     // the device's id: "vda", "net0"
  bool guest = false;          // the guest, not the host, caused the event
  std::string reason = {};     // kReset, kShutdown: a QMP ShutdownCause; else the error's text
  std::string operation = {};  // "read" or "write"
  std::string action = {};     // a QMP BlockErrorAction: "report", "ignore" or "stop"
  bool no_space = false;
  uint64_t value = 0;
};

}  // namespace wick::vmm
