// The command of wick exec as part of a run: prepares the machine for the command, and turns the
// ends of the command and of the machine into one exit status.
//
// Thread rule: the main thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/fd.h"
#include "cli/exec_copy.h"
#include "cli/exec_guest.h"
#include "cli/exec_options.h"
#include "cli/exec_terminal.h"
#include "cli/run.h"
#include "guest/session.h"

namespace wick::cli {

// Returns the outcome of a command. Its machine ended with `machine_outcome` and `text` (see
// RunTask). A machine that ended before its command is never a success. `end` is nullptr if the
// guest did not tell how the command ended. Sets `text` to what the user is told.
RunOutcome exec_outcome(const guest::CommandEnd* end, const vmm::RunReport& report,
                        RunOutcome machine_outcome, std::string& text);

class ExecTask final : public RunTask {
 public:
  // `error`, which may be nullptr, must outlive the task. outcome() sets it to the reason if the
  // command did not end by itself.
  explicit ExecTask(ExecOptions options, std::string* error = nullptr)
      : options_(std::move(options)), error_(error) {}

  Result<void> prepare(vmm::MachineConfig& config, EventLoop& loop) override;
  Result<void> built(vmm::Machine& machine) override;
  bool take_signal(int number) override { return session_->send_signal(number); }
  RunOutcome outcome(const vmm::RunReport& report, RunOutcome machine_outcome,
                     std::string& text) override;

 private:
  using Clock = std::chrono::steady_clock;

  Result<ExecGuest> describe_guest(vmm::MachineConfig& config, const std::string& modules_folder);
  Result<void> add_folders(vmm::MachineConfig& config, ExecGuest& guest);
  Result<void> lock_overlay();
  void publish_copies(const guest::CommandEnd& end, RunOutcome& outcome, std::string& text) const;
  Result<void> open_session(EventLoop& loop);
  void write_json(const vmm::RunReport& report, RunOutcome& outcome) const;

  const ExecOptions options_;
  std::string* const error_;
  const Clock::time_point created_ = Clock::now();
  Clock::time_point started_;  // when the command started
  Clock::time_point ended_;    // when the run ended
  EventLoop* loop_ = nullptr;
  Fd json_;
  Fd initramfs_;
  Fd overlay_lock_;  // the folder of --overlay, locked
  std::string kernel_;
  bool has_modules_ = false;  // the host has modules of this kernel
  std::vector<ExecCopy> copies_;
  std::vector<std::string> command_;
  bool on_terminal_ = false;
  vmm::Machine* machine_ = nullptr;
  std::unique_ptr<guest::Session> session_;
  std::unique_ptr<ExecTerminal> terminal_;
};

}  // namespace wick::cli
