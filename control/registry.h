// The machines of a user by name. Each machine that runs has a folder of its name, which holds
//
//   lock          locked by the machine's process as long as it runs; holds the ending afterwards
//   machine.json  what the machine is (control/record.h)
//   ending.json   how it ended; only of machines in the background
//   qmp.sock, monitor.sock, ttyS0.sock, ...
//   console.log, console.log.1, log  of machines in the background: the output of the first
//                 console, and wick's own
//
// A machine runs if and only if its lock is held: the kernel releases the lock when the process
// ends, however that happens. It is an open file description lock (fcntl_locking(2)), because other
// processes can look at such a lock without taking it.
//
// The folder of all machines is checked as one that others may have prepared: it must be the
// user's own, and nothing in it is reached through a symbolic link.
//
// Thread rule: any thread, one at a time.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "control/record.h"

namespace wick::control {

inline constexpr size_t kMaxMachineNameBytes = 64;

// Fails, with the rule, for names that cannot be a folder or would be taken for an option.
Result<void> check_machine_name(std::string_view name);

// The folder for `user`: WICK_RUNTIME_DIR, if it is not empty; /run/wick for root;
// $XDG_RUNTIME_DIR/wick; or else /tmp/wick-UID. A relative path in a variable counts as none.
// Variables that are not set are nullptr.
struct RegistryVariables {
  const char* wick_runtime_dir = nullptr;
  const char* xdg_runtime_dir = nullptr;
};
std::string registry_folder(const RegistryVariables& variables, uid_t user);

// One machine of this process. It is locked until the object is destroyed.
class MachineEntry {
 public:
  MachineEntry(MachineEntry&& other) noexcept = default;

  const std::string& name() const { return name_; }
  // The path of a file or socket in the entry.
  std::string path(std::string_view file) const { return folder_path_ + '/' + std::string(file); }
  // Creates a file in the entry and opens it for writing.
  Result<Fd> create_file(const char* file) const;

  Result<void> publish(const MachineRecord& record) const;
  // Records the ending for those who wait or ask later. The entry stays until the name is
  // claimed again, or removed.
  Result<void> finish(int status, const std::string& reason) const;
  // Removes the entry. Processes that already wait for the ending get it; later ones find no
  // machine of this name.
  void remove(int status, const std::string& reason) const;

 private:
  friend class Registry;
  MachineEntry(std::string name, std::string folder_path, Fd registry, Fd folder, Fd lock)
      : name_(std::move(name)),
        folder_path_(std::move(folder_path)),
        registry_(std::move(registry)),
        folder_(std::move(folder)),
        lock_(std::move(lock)) {}
  Result<void> write_file(const char* file, std::string_view text) const;
  void write_ending(const EndingRecord& ending) const;

  std::string name_;
  std::string folder_path_;
  Fd registry_;
  Fd folder_;
  Fd lock_;
};

// A machine as other processes see it.
class MachineView {
 public:
  enum class State {
    kLive,     // its process runs
    kEnded,    // with an ending
    kCrashed,  // its process ended without recording how: it was killed, or the host failed
  };

  const std::string& name() const { return name_; }
  std::string path(std::string_view file) const { return folder_path_ + '/' + std::string(file); }
  State state() const;
  // nullopt while the machine is being built, and if the file is not valid.
  std::optional<MachineRecord> record() const;
  // Valid once the state is not kLive; nullopt if the machine has crashed.
  std::optional<EndingRecord> ending() const;
  // Opens a file of the entry for reading.
  Result<Fd> open_file(const char* file) const;

  // Waits until the machine's process has ended; false if that takes longer than `timeout`.
  // nullopt: waits as long as it takes.
  Result<bool> wait(std::optional<std::chrono::milliseconds> timeout) const;
  // Kills the process. Not an error if it has ended.
  Result<void> kill() const;

 private:
  friend class Registry;
  MachineView(std::string name, std::string folder_path, Fd folder, Fd lock)
      : name_(std::move(name)),
        folder_path_(std::move(folder_path)),
        folder_(std::move(folder)),
        lock_(std::move(lock)) {}

  std::string name_;
  std::string folder_path_;
  Fd folder_;
  Fd lock_;
};

class Registry {
 public:
  // Makes the folder if it does not exist.
  static Result<Registry> open(const std::string& folder);
  // Opens the folder of the calling user, as registry_folder() says.
  static Result<Registry> open();

  // Makes the entry of a new machine. Fails if a machine of this name is running; removes what
  // one that has ended left.
  Result<MachineEntry> claim(const std::string& name) const;
  // The names of all entries, sorted. Each may be gone before find() sees it.
  Result<std::vector<std::string>> names() const;
  // Fails if there is no entry.
  Result<MachineView> find(const std::string& name) const;
  // Removes the entry of a machine that does not run.
  Result<void> remove(const std::string& name) const;

 private:
  Registry(std::string path, Fd folder) : path_(std::move(path)), folder_(std::move(folder)) {}
  // nullopt: no such entry.
  Result<std::optional<MachineView>> look_up(const std::string& name) const;

  std::string path_;
  Fd folder_;
};

}  // namespace wick::control
