// The registry of a user's machines by name. Each machine that runs has an entry: a folder of its
// name, which holds
//
//   lock          locked by the machine's process as long as it runs; holds the ending afterwards
//   machine.json  the description of the machine (control/record.h)
//   ending.json   how the machine ended; only of machines in the background
//   qmp.sock, monitor.sock, ttyS0.sock, ...
//   console.log, console.log.1, log
//                 the output of the first console, and that of wick itself; only of machines in
//                 the background
//
// A machine runs if and only if its lock is held: the kernel releases the lock when the process
// ends, for whatever reason. The lock is an open file description lock (fcntl_locking(2)), because
// other processes can look at such a lock without taking it.
//
// The folder of all machines may have been prepared by another user. So wick checks that it is the
// user's own, and follows no symbolic link in it.
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

// Fails for a name that cannot be a folder or would be taken for an option. The error's text states
// the rule.
Result<void> check_machine_name(std::string_view name);

// The environment's variables for registry_folder(); nullptr: not set.
struct RegistryVariables {
  const char* wick_runtime_dir = nullptr;
  const char* xdg_runtime_dir = nullptr;
};
// Returns the folder of `user`'s machines: WICK_RUNTIME_DIR; otherwise /run/wick for root;
// otherwise $XDG_RUNTIME_DIR/wick; otherwise /tmp/wick-UID. A variable counts only if it is an
// absolute path.
std::string registry_folder(const RegistryVariables& variables, uid_t user);

// The entry of a machine of this process. It is locked until this object is destroyed.
class MachineEntry {
 public:
  MachineEntry(MachineEntry&& other) noexcept = default;

  const std::string& name() const { return name_; }
  // Returns the path of a file or socket in the entry.
  std::string path(std::string_view file) const { return folder_path_ + '/' + std::string(file); }
  // Creates a file in the entry and opens it for writing.
  Result<Fd> create_file(const char* file) const;

  Result<void> publish(const MachineRecord& record) const;
  // Records the ending for processes that wait for it or ask later. The entry stays until it is
  // removed, or its name is claimed again.
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

// The entry of a machine, as other processes see it.
class MachineView {
 public:
  enum class State {
    kLive,     // its process runs
    kEnded,    // its process has ended and recorded the ending
    kCrashed,  // its process has ended without a record: it was killed, or the host failed
  };

  const std::string& name() const { return name_; }
  std::string path(std::string_view file) const { return folder_path_ + '/' + std::string(file); }
  State state() const;
  // Returns the content of machine.json; nullopt while the machine is being built, and if the file
  // is not valid.
  std::optional<MachineRecord> record() const;
  // Returns the ending, which is valid only if the state is not kLive; nullopt if the machine has
  // crashed.
  std::optional<EndingRecord> ending() const;
  // Opens a file of the entry for reading.
  Result<Fd> open_file(const char* file) const;

  // Waits until the machine's process has ended. Returns false if that takes longer than `timeout`.
  // Without a timeout it waits as long as necessary.
  Result<bool> wait(std::optional<std::chrono::milliseconds> timeout) const;
  // Kills the process. It is not an error if the process has ended.
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
  // Opens the registry in `folder`, which is created if it does not exist.
  static Result<Registry> open(const std::string& folder);
  // Opens the registry of the calling user; registry_folder() gives its folder.
  static Result<Registry> open();

  // Makes the entry of a new machine. Fails if a machine of this name is running. Removes the files
  // that an ended machine of this name has left.
  Result<MachineEntry> claim(const std::string& name) const;
  // Returns the names of all entries, sorted. An entry may be gone before find() sees it.
  Result<std::vector<std::string>> names() const;
  // Finds the entry of a machine. Fails if there is none.
  Result<MachineView> find(const std::string& name) const;
  // Removes the entry of a machine that does not run.
  Result<void> remove(const std::string& name) const;

 private:
  Registry(std::string path, Fd folder) : path_(std::move(path)), folder_(std::move(folder)) {}
  // Finds an entry; nullopt: there is none.
  Result<std::optional<MachineView>> look_up(const std::string& name) const;

  std::string path_;
  Fd folder_;
};

}  // namespace wick::control
