#include "vmm/machine.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <thread>

#include "base/mutex.h"
#include "vmm/board.h"
#include "vmm/cpu_gate.h"
#include "vmm/guest_clock.h"
#include "vmm/kvm_counters.h"
#include "vmm/machine_hardware.h"
#include "vmm/machine_inspector.h"
#include "vmm/peripherals.h"

namespace wick::vmm {

namespace {

// A vCPU without an exit for this long may be halted for good, so its state is checked.
constexpr std::chrono::seconds kHaltCheckPeriod{1};
// After a pvpanic event the guest has this long to print the reason and to end by itself.
constexpr std::chrono::seconds kPanicTimeout{1};
constexpr size_t kReportedConsoleLines = 200;

class KvmMachine final : public Machine {
 public:
  KvmMachine(const MachineConfig& config, EventLoop& main_loop)
      : config_(config), main_loop_(main_loop) {}
  ~KvmMachine() override { stop_vcpus(); }

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
  Result<boot::BootFiles> open_files() const;
  Result<void> power_on(boot::BootFiles files);
  void run_board();
  bool wants_reset();
  bool panicked() const;
  uint64_t written_bytes() const;
  RunReport report();
  void end_with(Ending ending, int signal, std::string detail);
  void vcpu_ended(const VcpuExit& exit);
  void check_for_halt();
  void stop_vcpus();
  void vcpus_stopped();
  void debug_stop(const DebugStop& stop);
  void disk_failed(const std::string& id, const block::Supervised::Failure& failure);
  void resume(std::span<const CpuRun> cpus);
  void publish(const MachineEvent& event);
  void publish_end();
  std::string timeout_detail() const;
  RunStats stats() const;

  const MachineConfig config_;
  EventLoop& main_loop_;
  std::optional<Kvm> kvm_;
  std::optional<Peripherals> peripherals_;
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
  MachineHardware hardware_{config_, [this](const MachineEvent& event) { publish(event); }};
  RunState state_ = RunState::kRunning;
  std::optional<RunState> pausing_;  // the reason, while the vCPUs are being stopped
  std::vector<std::function<void()>> when_paused_;
  bool resume_requested_ = false;       // while the vCPUs were being stopped
  std::vector<DebugStop> debug_stops_;  // not reported yet
  bool host_reset_ = false;
  std::map<int, Observer> observers_;
  int next_observer_ = 0;

  Mutex mutex_;
  bool ended_ GUARDED_BY(mutex_) = false;
  Ending ending_ GUARDED_BY(mutex_) = Ending::kPoweredOff;
  int signal_ GUARDED_BY(mutex_) = 0;
  std::string detail_ GUARDED_BY(mutex_);
};

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const MachineConfig& config,
                                                 EventLoop& main_loop) {
  TRY(check(config));
  auto machine = std::make_unique<KvmMachine>(config, main_loop);
  TRY(machine->build());
  return machine;
}

namespace {

Result<void> KvmMachine::build() {
  // First what is quick to refuse.
  boot::BootFiles files = TRY(open_files());
  const console::TerminalKeys keys{.quit = [this] { end(Ending::kQuit, 0); },
                                   .power_button = [this] { press_power_button(); }};
  panic_timer_ = TRY(main_loop_.timer([this] { end(Ending::kPanicked, 0); }));
  peripherals_.emplace(TRY(Peripherals::create(
      config_, main_loop_, keys, [this](const std::string& id, const auto& failure) {
        main_loop_.post([this, id, failure] { disk_failed(id, failure); });
      })));
  hardware_.set_peripherals(&*peripherals_);
  if (config_.start_paused) state_ = RunState::kPaused;
  kvm_.emplace(TRY(Kvm::open()));
  return power_on(std::move(files));
}

Result<boot::BootFiles> KvmMachine::open_files() const {
  const auto cache = config_.kernel_cache.empty() ? boot::KernelCache()
                                                  : boot::KernelCache::open(config_.kernel_cache);
  return boot::open_files(config_.kernel_path, config_.initrd_path, cache);
}

Result<void> KvmMachine::power_on(boot::BootFiles files) {
  written_before_start_ = written_bytes();
  gate_.disconnect();
  inspector_.set_board(nullptr);
  hardware_.set_board(nullptr);
  board_.reset();  // frees its memory before the next board allocates as much
  board_ = TRY(Board::create(config_, std::move(files), *kvm_, *peripherals_, main_loop_, clock_,
                             {.power_off = [this] { end(Ending::kPoweredOff, 0); },
                              .reset = [this] { end(Ending::kRebooted, 0); },
                              .panicked =
                                  [this] {
                                    pvpanic_event_ = true;
                                    panic_timer_.arm(kPanicTimeout);
                                    main_loop_.post([this] {
                                      publish({.kind = MachineEvent::Kind::kGuestPanicked});
                                    });
                                  },
                              .balloon_changed =
                                  [this] {
                                    main_loop_.post([this] {
                                      publish({.kind = MachineEvent::Kind::kBalloonChange,
                                               .value = hardware_.balloon_bytes().value_or(0)});
                                    });
                                  }}));
  cmdline_ = board_->cmdline();
  clock_.forget_board();
  gate_.connect(board_->vcpus(), state_ != RunState::kRunning || pausing_);
  if (pausing_) gate_.stop([this] { vcpus_stopped(); });  // a pause that the reset overtook
  inspector_.set_board(board_.get());
  hardware_.set_board(board_.get());
  return {};
}

RunReport KvmMachine::run() {
  EventLoop::Timer timer;
  if (auto made = main_loop_.timer([&] {
        check_for_halt();
        timer.arm(kHaltCheckPeriod);
      })) {
    timer = *std::move(made);
    timer.arm(kHaltCheckPeriod);
  } else {
    end_with(Ending::kHostFailed, 0, made.error().message());
  }
  for (;;) {
    run_board();
    if (!wants_reset()) {
      publish_end();
      return report();
    }
    publish({.kind = MachineEvent::Kind::kReset,
             .guest = !host_reset_,
             .reason = host_reset_ ? "host-qmp-system-reset" : "guest-reset"});
    host_reset_ = false;
    auto files = open_files();
    const auto again = files ? power_on(*std::move(files)) : std::unexpected(files.error());
    if (!again) {
      end_with(Ending::kHostFailed, 0, again.error().message());
      publish_end();
      return report();
    }
  }
}

// Runs until the main loop is stopped.
void KvmMachine::run_board() {
  exits_at_last_check_.assign(board_->vcpus().size(), 0);
  halted_checks_ = 0;
  if (state_ != RunState::kRunning) {
    peripherals_->pause();
    clock_.stop(board_->vm(), board_->vcpus());
  }
  // The threads inherit the signal mask of the main thread, so signals are not delivered to them.
  for (size_t i = 0; i < board_->vcpus().size(); ++i) {
    auto thread = start_thread(fmt::format("vcpu{}", i), [this, &vcpu = *board_->vcpus()[i]] {
      const VcpuExit exit = vcpu.run();
      if (exit.kind != VcpuExit::Kind::kStopped) vcpu_ended(exit);
    });
    if (thread)
      vcpu_threads_.push_back(*std::move(thread));
    else
      end_with(Ending::kHostFailed, 0, thread.error().message());
  }
  main_loop_.run();
  stop_vcpus();
  gate_.vcpus_ended();
  debug_stops_.clear();
  peripherals_->resume();  // a device must not wait for held requests when it is destroyed
}

// True, and clears the ending, for a reboot with --on-reboot reset. After a panic the run ends
// anyway, because the machine would panic again and again.
bool KvmMachine::wants_reset() {
  const MutexLock lock(mutex_);
  if (ending_ != Ending::kRebooted) return false;
  if (!host_reset_ && (!config_.reset_on_reboot || panicked())) return false;
  ended_ = false;
  pvpanic_event_ = pvpanic_event_ && !host_reset_;
  return true;
}

// The text of a panic alone does not end the run, because a user may print it: report() checks
// it only after a reboot, halt or triple fault. A panic never powers off.
bool KvmMachine::panicked() const {
  return pvpanic_event_ || std::ranges::any_of(peripherals_->consoles(), [](const auto& port) {
           return port->transcript().panicked();
         });
}

// The sum over all consoles since the run began.
uint64_t KvmMachine::written_bytes() const {
  uint64_t bytes = 0;
  for (const auto& port : peripherals_->consoles()) bytes += port->transcript().end();
  return bytes;
}

RunReport KvmMachine::report() {
  RunReport report;
  {
    const MutexLock lock(mutex_);
    report.ending = ending_;
    report.signal = signal_;
    report.detail = detail_;
  }
  if (auto finished = peripherals_->finish(); !finished) {
    report.ending = Ending::kHostFailed;
    report.detail = finished.error().message();
  }
  const bool stopped = report.ending == Ending::kRebooted || report.ending == Ending::kHalted ||
                       report.ending == Ending::kTripleFault;
  if (stopped && panicked()) report.ending = Ending::kPanicked;
  report.silent = written_bytes() == written_before_start_;
  report.registers_were_reset = report.ending == Ending::kTripleFault && Kvm::resets_on_shutdown();
  for (const auto& port : peripherals_->consoles())
    if (report.console_lines.empty())
      report.console_lines = port->transcript().last_lines(kReportedConsoleLines);
  if (board_ == nullptr) return report;
  if (report.ending == Ending::kTimeout) report.detail = timeout_detail();
  for (const auto& vcpu : board_->vcpus())
    report.cpus.push_back({vcpu->describe(board_->memory()), vcpu->describe_last_exits()});
  report.stats = stats();
  return report;
}

RunStats KvmMachine::stats() const {
  RunStats stats;
  for (const auto& vcpu : board_->vcpus()) {
    if (!vcpu->stats()) return {};
    vcpu->stats()->add_to(stats);
    stats.kvm_vcpus.push_back(read_kvm_counters(vcpu->fd()));
  }
  stats.kvm_vm = read_kvm_counters(board_->vm().fd());
  return stats;
}

void KvmMachine::end(Ending ending, int signal) { end_with(ending, signal, {}); }

void KvmMachine::end_with(Ending ending, int signal, std::string detail) {
  const MutexLock lock(mutex_);
  // While a machine is being reset, the host can still end the run, but the guest cannot.
  const bool from_host = ending == Ending::kSignal || ending == Ending::kQuit ||
                         ending == Ending::kTimeout || ending == Ending::kHostFailed;
  const bool resetting = ending_ == Ending::kRebooted && config_.reset_on_reboot;
  if (ended_ && !(resetting && from_host)) return;
  ended_ = true;
  ending_ = ending;
  signal_ = signal;
  detail_ = std::move(detail);
  main_loop_.stop();
}

void KvmMachine::vcpu_ended(const VcpuExit& exit) {
  switch (exit.kind) {
    case VcpuExit::Kind::kStopped:
      break;
    case VcpuExit::Kind::kHalted:
      end_with(Ending::kHalted, 0, exit.detail);
      break;
    case VcpuExit::Kind::kShutdown:
      end_with(Ending::kTripleFault, 0, exit.detail);
      break;
    case VcpuExit::Kind::kKvmError:
      end_with(Ending::kKvmError, 0, exit.detail);
      break;
    case VcpuExit::Kind::kHostError:
      end_with(Ending::kHostFailed, 0, exit.detail);
      break;
  }
}

// KVM handles HLT in the kernel without an exit, so the state of a vCPU without exits must be
// checked. Two checks in a row are necessary, because the vCPUs are checked at different moments
// and one may have woken another in between.
void KvmMachine::check_for_halt() {
  if (state_ != RunState::kRunning || pausing_) {
    halted_checks_ = 0;
    return;
  }
  const auto& vcpus = board_->vcpus();
  bool all_halted = true;
  for (size_t i = 0; i < vcpus.size(); ++i) {
    const uint64_t exits = vcpus[i]->exits();
    const bool idle = exits == exits_at_last_check_[i];
    // The result of the last check is valid only if the vCPU has had no exit since.
    all_halted = all_halted && idle && vcpus[i]->halted_for_good();
    if (idle) vcpus[i]->request_halt_check();
    exits_at_last_check_[i] = idle ? exits + 1 : exits;  // the check itself causes one exit
  }
  halted_checks_ = all_halted ? halted_checks_ + 1 : 0;
  if (halted_checks_ == 2) end(Ending::kHalted, 0);
}

std::string KvmMachine::timeout_detail() const {
  const bool halted =
      std::ranges::all_of(board_->vcpus(), [](const auto& vcpu) { return vcpu->halted(); });
  return fmt::format("the guest was {}{}", halted ? "halted, waiting for an interrupt" : "running",
                     written_bytes() > 0 ? "" : " and had never written anything");
}

void KvmMachine::press_power_button() {
  board_->press_power_button();
  publish({.kind = MachineEvent::Kind::kPowerdown});
}

void KvmMachine::pause(RunState why, std::function<void()> done) {
  if (state_ != RunState::kRunning && !pausing_) {
    if (done) done();
    return;
  }
  if (done) when_paused_.push_back(std::move(done));
  resume_requested_ = false;
  if (pausing_) return;
  pausing_ = why;
  gate_.stop([this] { vcpus_stopped(); });
}

void KvmMachine::vcpus_stopped() {
  peripherals_->pause();
  clock_.stop(board_->vm(), board_->vcpus());
  state_ = debug_stops_.empty() ? *pausing_ : RunState::kDebug;
  pausing_.reset();
  hardware_.set_paused(true);
  publish({.kind = MachineEvent::Kind::kStop});
  for (const auto& done : std::exchange(when_paused_, {})) done();
  for (const DebugStop& stop : std::exchange(debug_stops_, {})) inspector_.report(stop);
  if (std::exchange(resume_requested_, false)) resume();
}

// Several vCPUs may stop at the same time.
void KvmMachine::debug_stop(const DebugStop& stop) {
  debug_stops_.push_back(stop);
  if (state_ == RunState::kRunning && !pausing_) pause(RunState::kDebug, {});
}

void KvmMachine::resume() {
  if (pausing_) {
    resume_requested_ = true;
    return;
  }
  if (state_ == RunState::kRunning) return;
  resume(std::span<const CpuRun>());
}

void KvmMachine::resume(std::span<const CpuRun> cpus) {
  clock_.start(board_->vm(), board_->vcpus());
  // Between the steps of a debugger the devices stay as they are.
  const bool only_steps = !cpus.empty() && std::ranges::find(cpus, CpuRun::kContinue) == cpus.end();
  if (!only_steps) {
    peripherals_->resume();
    hardware_.set_paused(false);
  }
  state_ = RunState::kRunning;
  publish({.kind = MachineEvent::Kind::kResume});  // before the guest changes its memory
  gate_.resume(cpus);
}

void KvmMachine::disk_failed(const std::string& id, const block::Supervised::Failure& failure) {
  const bool stop = failure.action == block::ErrorPolicy::kStop;
  const bool no_space = failure.error.code == ENOSPC;
  hardware_.disk_failed(id, no_space, stop);
  publish({.kind = MachineEvent::Kind::kBlockIoError,
           .device = id,
           .reason = failure.error.message(),
           .operation = failure.write ? "write" : "read",
           .action = stop                                            ? "stop"
                     : failure.action == block::ErrorPolicy::kIgnore ? "ignore"
                                                                     : "report",
           .no_space = no_space});
  if (!stop) return;
  spdlog::error("disk {}: {}; the machine is paused until it is resumed (wick resume)", id,
                failure.error.message());
  pause(RunState::kIoError, {});
}

void KvmMachine::reset() {
  host_reset_ = true;
  end(Ending::kRebooted, 0);
}

Result<void> KvmMachine::inject_nmi() {
  for (const auto& vcpu : board_->vcpus()) TRY(vcpu->inject_nmi());
  return {};
}

Result<void> KvmMachine::wake_up() {
  return with_hint(fail("the guest does not sleep in a state that it can be woken from"),
                   "the power button wakes a guest from s2idle");
}

Machine::Subscription KvmMachine::subscribe(Observer observer) {
  const int number = next_observer_++;
  observers_[number] = std::move(observer);
  return Subscription([this, number] { observers_.erase(number); });
}

// An observer may subscribe or end a subscription, also its own.
void KvmMachine::publish(const MachineEvent& event) {
  for (auto next = observers_.begin(); next != observers_.end();) {
    const int number = next->first;
    const Observer observer = next->second;
    observer(event);
    next = observers_.upper_bound(number);
  }
}

// The reasons are those of QMP's ShutdownCause.
void KvmMachine::publish_end() {
  const auto [ending, has_panicked] = [this] {
    const MutexLock lock(mutex_);
    return std::pair(ending_, panicked());
  }();
  MachineEvent event{.kind = MachineEvent::Kind::kShutdown, .guest = true};
  switch (ending) {
    case Ending::kPoweredOff:
    case Ending::kHalted:
      event.reason = "guest-shutdown";
      break;
    case Ending::kRebooted:
    case Ending::kTripleFault:
      event.reason = has_panicked ? "guest-panic" : "guest-reset";
      break;
    case Ending::kPanicked:
      event.reason = "guest-panic";
      break;
    case Ending::kQuit:
      event.guest = false;
      event.reason = "host-qmp-quit";
      break;
    case Ending::kSignal:
    case Ending::kTimeout:
      event.guest = false;
      event.reason = "host-signal";
      break;
    case Ending::kHostFailed:
    case Ending::kKvmError:
      event.guest = false;
      event.reason = "host-error";
      break;
  }
  publish(event);
}

void KvmMachine::stop_vcpus() {
  if (board_ == nullptr) return;
  for (const auto& vcpu : board_->vcpus()) vcpu->request_stop();
  for (std::thread& thread : vcpu_threads_) thread.join();
  vcpu_threads_.clear();
}

}  // namespace

}  // namespace wick::vmm
