// The Machine on KVM: its life from build() to the report of the run (machine.cc), its control
// while it runs (machine_control.cc), and S3 (machine_sleep.cc).
//
// Thread rule: as Machine.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "vmm/board.h"
#include "vmm/cpu_gate.h"
#include "vmm/guest_clock.h"
#include "vmm/machine.h"
#include "vmm/machine_hardware.h"
#include "vmm/machine_inspector.h"
#include "vmm/peripherals.h"

namespace wick::vmm {

class KvmMachine final : public Machine {
 public:
  KvmMachine(const MachineConfig& config, EventLoop& main_loop)
      : config_(config), main_loop_(main_loop) {}
  ~KvmMachine() override;

  Result<void> build();

  const std::string& cmdline() const override { return cmdline_; }
  RunReport run() override;
  void end(Ending ending, int signal) override;
  void press_power_button() override;
  void update_disk_sizes() override { peripherals_->update_disk_sizes(); }

  const MachineConfig& config() const override { return config_; }
  RunState state() const override { return state_; }
  void pause(RunState why, std::function<void()> done) override;
  void resume() override;
  void reset() override;
  Result<void> inject_nmi() override;
  Result<void> wake_up() override;
  Subscription subscribe(Observer observer) override;
  Inspector& inspector() override { return inspector_; }
  Hardware& hardware() override { return hardware_; }

 private:
  Result<StartFiles> open_files();
  Result<void> power_on(StartFiles files);
  void run_board();
  bool wants_reset();
  Result<void> reset_board();
  // S3, from the guest's request to its wake-up or to the end of the run.
  void suspend();
  bool take_suspend();
  bool sleep();  // true: the guest is to wake up; false: the machine is to end, or to be reset
  Result<void> wake();
  void check_wake();
  void wake_by(devices::AcpiPm::WakeSource source);
  bool panicked() const;
  uint64_t written_bytes() const;
  RunReport report();
  // `by_host`: the host, not the guest, has requested this reset.
  void end_with(Ending ending, int signal, std::string detail, bool by_host = false);
  void debug_exit(uint32_t value);
  void vcpu_ended(const VcpuExit& exit);
  void check_for_halt();
  void stop_vcpus();
  void finish_round(int rounds);
  void vcpus_stopped();
  void with_stopped_vcpus(std::function<void()> job);
  void run_jobs();
  void debug_stop(const DebugStop& stop);
  void disk_failed(const std::string& id, const block::Supervised::Failure& failure);
  void resume(std::span<const CpuRun> cpus);
  void publish(const MachineEvent& event);
  void publish_end();
  // Posts `function` to the main loop. If the machine is destroyed first, the function is not
  // called. Any thread.
  void post(std::function<void()> function);
  // Posts `function`, unless a function posted with the same `waits` has not run yet. For events
  // that a guest can cause any number of times. `waits` must be a member of this object.
  void post_once(std::atomic<bool>& waits, std::function<void()> function);
  void panic_timeout();
  std::string timeout_detail() const;
  RunStats stats() const;

  const MachineConfig config_;
  EventLoop& main_loop_;
  std::optional<Kvm> kvm_;
  std::optional<Peripherals> peripherals_;
  std::unique_ptr<boot::UefiVariables> uefi_variables_;
  std::unique_ptr<Board> board_;  // nullptr if a reset has failed
  std::string cmdline_;
  uint64_t written_before_start_ = 0;  // written_bytes() when the board was built
  EventLoop::Timer panic_timer_;
  std::atomic<bool> pvpanic_event_{false};
  std::vector<std::thread> vcpu_threads_;
  std::vector<uint64_t> exits_at_last_check_;
  int halted_checks_ = 0;  // consecutive checks that found all vCPUs halted for good

  // Control; see machine.h.
  GuestClock clock_;
  CpuGate gate_{main_loop_, [this](const DebugStop& stop) { debug_stop(stop); }};
  MachineInspector inspector_{gate_, [this](std::span<const CpuRun> cpus) { resume(cpus); }};
  MachineHardware hardware_{config_, [this](const MachineEvent& event) { publish(event); },
                            [this](auto job) { with_stopped_vcpus(std::move(job)); }};
  RunState state_ = RunState::kRunning;
  std::optional<RunState> pausing_;  // set while a pause begins: the state that it leads to
  std::vector<std::function<void()>> when_paused_;
  bool telling_ = false;                     // the functions of when_paused_ are being called
  bool resume_requested_ = false;            // resume() was called while the pause began
  std::vector<DebugStop> debug_stops_;       // not reported to the debugger yet
  std::vector<std::function<void()>> jobs_;  // to be called when no vCPU runs
  uint64_t boards_ = 0;                      // how often power_on() was called
  std::map<int, Observer> observers_;
  int next_observer_ = 0;

  std::atomic<bool> balloon_posted_{false};
  std::atomic<bool> tray_posted_{false};
  // Expires with the machine. Posted functions check this, because they may run after its end.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  std::optional<devices::AcpiPm::WakeSource> woken_by_;  // set when the guest is to wake up
  std::optional<RunState> paused_on_wake_;  // the paused state after the wake-up; nullopt: running
  std::atomic<bool> asleep_{false};
  std::atomic<bool> to_disk_{false};  // the guest powers off in S4
  std::atomic<bool> key_posted_{false};
  std::atomic<bool> alarm_posted_{false};

  Mutex mutex_;
  bool suspended_ GUARDED_BY(mutex_) = false;  // the guest has asked for S3
  bool host_reset_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = false;
  Ending ending_ GUARDED_BY(mutex_) = Ending::kPoweredOff;
  int signal_ GUARDED_BY(mutex_) = 0;
  uint32_t debug_exit_value_ GUARDED_BY(mutex_) = 0;  // the value that ended the run
  std::string detail_ GUARDED_BY(mutex_);
};

}  // namespace wick::vmm
