// Child processes that a test talks to, and the files it makes. Every wait is
// bounded; when a test ends, whichever way, its processes and files are gone.
//
// A step that cannot succeed any more ends the test (give_up()), so that a test
// reads as a list of steps.
//
// Thread rule: one thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace wick::lab {

using Seconds = std::chrono::seconds;

// What only a hang needs: the lab emulates its CPUs, and others use the machine.
constexpr Seconds kPatience{240};

// Reports a failure and ends the test, from any depth of calls.
[[noreturn]] void give_up(const std::string& why);

// A folder of its own, for short paths; removed with all that is in it.
class TempDir {
 public:
  // In $TMPDIR or /tmp; or in `parent`.
  explicit TempDir(const std::string& parent = "");
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A folder on a disk, where O_DIRECT works: the lab's /tmp is in memory.
std::string folder_on_disk();

void write_file(const std::string& path, std::string_view content);
std::string read_file(const std::string& path, uint64_t offset = 0);
bool exists(const std::string& path);
// Waits until the file at `path` contains `text`.
void await_in_file(const std::string& path, std::string_view text, Seconds patience = kPatience);

// One end of a pipe, a terminal or a socket, and what came from there.
class Dialogue {
 public:
  Dialogue() = default;
  Dialogue(Fd in, Fd out);
  // Connects to a Unix socket.
  static Dialogue connect(const std::string& socket_path);

  void send(std::string_view text);
  // Waits for `text`, and returns what came before it and after the last one
  // that was expected.
  std::string expect(std::string_view text, Seconds patience = kPatience);
  // Waits until the other side closes; returns what came since the last expect().
  std::string expect_end(Seconds patience = kPatience);
  // Takes what comes within `wait_ms`; false when the other side has closed.
  bool listen(int wait_ms);
  // Takes what has come already.
  void drain();
  void hang_up();
  void close_output() { out_.close(); }

  // All that ever came.
  const std::string& transcript() const { return received_; }
  int fd() const { return in_.get(); }

 private:
  Fd in_;
  Fd out_;
  std::string received_;
  size_t expected_ = 0;  // how much of it expect() has passed
  bool ended_ = false;   // the other side has closed
};

enum class Stdio {
  kPipes,
  kTerminal,  // stdin and stdout; the process leads its session
};

class Process {
 public:
  // argv[0] is looked up in PATH. No WICK_ variable of ours gets through.
  explicit Process(std::vector<std::string> argv, Stdio stdio = Stdio::kPipes);
  // Kills it if it still runs; shows its console and its stderr when the test
  // has failed.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Its stdin and stdout.
  Dialogue& console() { return console_; }
  std::string errors() const;  // its stderr so far
  void await_error(std::string_view text, Seconds patience = kPatience);

  pid_t pid() const { return pid_; }
  bool running();
  void signal(int number) const;
  // Its resident memory, in mappings smaller than `below_bytes`.
  long resident_kib(uint64_t below_bytes = UINT64_MAX) const;
  // Waits for its end: the exit status, or -N when signal N killed it.
  int wait(Seconds patience = kPatience);

  // For a process that outlives its test's failure.
  void show() const;

 private:
  std::string name_;  // for messages
  pid_t pid_ = -1;
  bool ended_ = false;
  int status_ = 0;
  Dialogue console_;
  Fd errors_;  // a file in memory
};

// A command that is run to its end, with nothing on stdin.
struct Finished {
  int status = 0;  // as Process::wait()
  std::string out;
  std::string err;
};
Finished finish(const std::vector<std::string>& argv, Seconds patience = kPatience);

// `argv` in mounts of its own, after `script` (of sh) has changed them; they go
// with the process.
std::vector<std::string> in_own_mounts(const std::string& script,
                                       const std::vector<std::string>& argv);

}  // namespace wick::lab
