// The commands for machines by name. Their names are those of virsh's commands. A command finds a
// machine by its entry in the registry (control/registry.h), and talks to it through the machine's
// QMP socket.
//
// Thread rule: the main thread; these commands have no other thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"

namespace wick::cli {

namespace machines {

struct List {
  bool all = false;  // true: machines that do not run are listed, too
  bool json = false;
};
struct Info {
  std::string name;
  bool json = false;
};
struct Console {
  std::string name;
  std::string port = "ttyS0";
};
struct Monitor {
  std::string name;
  std::string command;  // empty: connect the terminal to the monitor
};
struct Gdb {
  std::string name;
  std::string vmlinux;                 // empty: no symbols
  std::vector<std::string> arguments;  // additional arguments of gdb
};
struct Logs {
  std::string name;
  bool follow = false;
};
struct Wait {
  std::string name;
};
struct Shutdown {
  std::string name;
  std::optional<std::chrono::microseconds> timeout;  // nullopt: do not wait for the machine's end
};
struct Reboot {
  std::string name;
  std::chrono::microseconds timeout = std::chrono::minutes(2);
};
struct Reset {
  std::string name;
};
struct Destroy {
  std::string name;
};
struct Suspend {
  std::string name;
};
struct Resume {
  std::string name;
};
struct BlockResize {
  std::string name;
  std::string disk;
  uint64_t size_bytes = 0;
};
struct Screenshot {
  std::string name;
  std::string path;  // a PPM if the path ends in .ppm, otherwise a PNG
};
struct Define {
  std::string file;
  std::string name;
};
struct Undefine {
  std::string name;
};

}  // namespace machines

using MachineCommand =
    std::variant<machines::List, machines::Info, machines::Console, machines::Monitor,
                 machines::Gdb, machines::Logs, machines::Wait, machines::Shutdown,
                 machines::Reboot, machines::Reset, machines::Destroy, machines::Suspend,
                 machines::Resume, machines::BlockResize, machines::Screenshot, machines::Define,
                 machines::Undefine>;

namespace machines {

// Each function executes a command and returns its exit status.
Result<int> execute(const List& command);
Result<int> execute(const Info& command);
Result<int> execute(const Console& command);
Result<int> execute(const Monitor& command);
// Replaces this process with gdb.
Result<int> execute(const Gdb& command);
Result<int> execute(const Logs& command);
Result<int> execute(const Wait& command);
Result<int> execute(const Shutdown& command);
Result<int> execute(const Reboot& command);
Result<int> execute(const Reset& command);
Result<int> execute(const Destroy& command);
Result<int> execute(const Suspend& command);
Result<int> execute(const Resume& command);
Result<int> execute(const BlockResize& command);
Result<int> execute(const Screenshot& command);
Result<int> execute(const Define& command);
Result<int> execute(const Undefine& command);

}  // namespace machines

}  // namespace wick::cli
