// The JSON texts of a machine's entry in the registry: machine.json while the machine runs, and the
// ending afterwards. Other processes read these texts, and check them like any untrusted input.
//
// Thread rule: any thread; pure functions.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick::control {

struct MachineRecord {
  std::string name;
  pid_t pid = 0;
  // The time at which the process started, in clock ticks since the boot (proc_pid_stat(5), field
  // 22). Together with the PID it identifies the process.
  uint64_t start_ticks = 0;
  int64_t since = 0;  // seconds since the epoch
  bool background = false;
  std::string uuid;  // in the form 8-4-4-4-12
  std::string kernel;
  uint64_t memory_bytes = 0;
  uint32_t cpus = 0;
  std::string console_log;  // the path of a copy of the first console's output; empty: none
  struct Console {
    std::string port;    // "ttyS0", "hvc0"
    std::string socket;  // the path; empty: this port is not on a Unix socket
  };
  std::vector<Console> consoles;
  // A service that the user wants, in addition to the entry's own sockets.
  struct Service {
    std::string kind;  // "qmp", "monitor", "gdb"
    std::string
        address;  // "unix:PATH" or "tcp:HOST:PORT", with the port that the kernel has chosen
  };
  std::vector<Service> services = {};
  // The folder in which the machine was started, and its options, to start it again.
  std::string folder;
  std::vector<std::string> arguments;
};

struct EndingRecord {
  int status = 0;      // the exit status of the run
  std::string reason;  // the last line that a run prints, without "wick: "
  int64_t when = 0;    // seconds since the epoch
};

inline constexpr size_t kMaxRecordBytes = 1 << 20;

// These functions return one line of JSON. Bytes that are not UTF-8 become U+FFFD.
std::string to_json(const MachineRecord& record);
std::string to_json(const EndingRecord& ending);

// These functions parse a record. They fail for wrong types and missing keys. Unknown keys are
// ignored, since a later wick may write them; "services" may be missing, since an earlier wick does
// not write that key.
Result<MachineRecord> parse_machine_record(std::string_view json);
Result<EndingRecord> parse_ending_record(std::string_view json);

}  // namespace wick::control
