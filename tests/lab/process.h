// Child processes that a test talks to, and its files. Every wait is bounded. However a test
// ends, its processes are killed and its files removed.
//
// A step that fails ends the test (give_up()), so that a test reads as a list of steps.
//
// Thread rule: one thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "tests/fakes/files.h"
#include "tests/fakes/temp_dir.h"

namespace wick::lab {

using Seconds = std::chrono::seconds;

// Longer than anything but a hang takes: the lab emulates its CPUs, on a machine that is
// shared.
constexpr Seconds kPatience{240};

// Reports a failure and ends the test, from any depth of calls.
[[noreturn]] void give_up(const std::string& why);

// A temporary folder with a short path. The destructor removes it with its content.
class TempDir : public fakes::TempDir {
 public:
  // In `parent` if it is given, otherwise in $TMPDIR or /tmp.
  explicit TempDir(const std::filesystem::path& parent = std::filesystem::temp_directory_path())
      : fakes::TempDir(parent) {
    std::filesystem::permissions(path(), std::filesystem::perms(0755));  // for other users
  }
};

// A folder on a disk, where O_DIRECT works: the lab's /tmp is in memory.
std::string folder_on_disk();

using fakes::write_file;
std::string read_file(const std::string& path, uint64_t offset = 0);
bool exists(const std::string& path);
// Waits until the file at `path` contains `text`.
void await_in_file(const std::string& path, std::string_view text, Seconds patience = kPatience);

// One end of a pipe, a terminal or a socket, and the text received from it.
class Dialogue {
 public:
  Dialogue() = default;
  Dialogue(Fd in, Fd out);
  // Connects to a Unix socket.
  static Dialogue connect(const std::string& socket_path);

  void send(std::string_view text);
  // Waits for `text`, and returns the text since the last expect() and before it.
  std::string expect(std::string_view text, Seconds patience = kPatience);
  // Waits until the other side closes; returns the text since the last expect().
  std::string expect_end(Seconds patience = kPatience);
  // Receives for at most `wait_ms`; false if the other side has closed.
  bool listen(int wait_ms);
  // Receives without waiting.
  void drain();
  void hang_up();
  void close_output() { out_.close(); }

  // All text received so far.
  const std::string& transcript() const { return received_; }
  int fd() const { return in_.get(); }

 private:
  Fd in_;
  Fd out_;
  std::string received_;
  size_t expected_ = 0;  // the part that expect() has returned
  bool ended_ = false;   // the other side has closed
};

enum class Stdio {
  kPipes,
  kTerminal,  // stdin and stdout; the process leads its session
};

class Process {
 public:
  // argv[0] is looked up in PATH. The process gets no WICK_ variables of the tests.
  explicit Process(std::vector<std::string> argv, Stdio stdio = Stdio::kPipes);
  // Kills the process if it still runs; shows its console and stderr if the test has failed.
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
  // The resident memory in mappings smaller than `below_bytes`.
  long resident_kib(uint64_t below_bytes = UINT64_MAX) const;
  // Waits for the end; returns the exit status, or -N if signal N killed the process.
  int wait(Seconds patience = kPatience);

  // Prints console and stderr, for a process that outlives the failed test.
  void show() const;

 private:
  std::string name_;  // for messages
  pid_t pid_ = -1;
  bool ended_ = false;
  int status_ = 0;
  Dialogue console_;
  Fd errors_;  // a file in memory
};

// The result of a command without stdin.
struct Finished {
  int status = 0;  // as Process::wait()
  std::string out;
  std::string err;
};
Finished finish(const std::vector<std::string>& argv, Seconds patience = kPatience);

// Returns a command that runs `argv` in a mount namespace of its own, after the shell script
// `script` has changed its mounts.
std::vector<std::string> in_own_mounts(const std::string& script,
                                       const std::vector<std::string>& argv);

}  // namespace wick::lab
