#include "vmm/machine.h"

#include <algorithm>

#include "vmm/kvm_counters.h"
#include "vmm/kvm_machine.h"
#include "vmm/layout.h"

namespace wick::vmm {

namespace {

// A vCPU without an exit for this long may be halted for good, so its state is checked.
constexpr std::chrono::seconds kHaltCheckPeriod{1};
// After a pvpanic event the guest has this long to print the reason and to end by itself.
constexpr std::chrono::seconds kPanicTimeout{1};
constexpr size_t kReportedConsoleLines = 200;

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const MachineConfig& config,
                                                 EventLoop& main_loop) {
  TRY(check(config));
  auto machine = std::make_unique<KvmMachine>(config, main_loop);
  TRY(machine->build());
  return machine;
}

// The peripherals are destroyed while this object is still whole, because the threads of disks call
// post() until the disks are destroyed.
KvmMachine::~KvmMachine() {
  stop_vcpus();
  board_.reset();
  peripherals_.reset();
}

void KvmMachine::post(std::function<void()> function) {
  main_loop_.post([alive = std::weak_ptr(alive_), function = std::move(function)] {
    if (!alive.expired()) function();
  });
}

void KvmMachine::post_once(std::atomic<bool>& waits, std::function<void()> function) {
  if (waits.exchange(true)) return;
  post([&waits, function = std::move(function)] {
    waits = false;
    function();
  });
}

// Ends the run, unless the host has reset the machine after the panic. While the machine is paused,
// the timeout is extended, because somebody may be writing a core of it.
void KvmMachine::panic_timeout() {
  if (!pvpanic_event_) return;
  if (state_ != RunState::kRunning || pausing_) return panic_timer_.arm(kPanicTimeout);
  end(Ending::kPanicked, 0);
}

Result<void> KvmMachine::build() {
  // Opens the files first, because errors in them are found quickly.
  StartFiles files = TRY(open_files());
  const console::TerminalKeys keys{.quit = [this] { end(Ending::kQuit, 0); },
                                   .power_button = [this] { press_power_button(); }};
  panic_timer_ = TRY(main_loop_.timer([this] { panic_timeout(); }));
  peripherals_.emplace(TRY(Peripherals::create(
      config_, main_loop_, keys,
      [this](const std::string& id, const auto& failure) {
        post([this, id, failure] { disk_failed(id, failure); });
      },
      [this] {
        if (asleep_)
          post_once(key_posted_, [this] { wake_by(devices::AcpiPm::WakeSource::kOther); });
      })));
  hardware_.set_peripherals(&*peripherals_);
  for (const auto& disk : peripherals_->disks())
    if (disk->drive() != nullptr)
      disk->drive()->on_tray_moved(
          [this](bool) { post_once(tray_posted_, [this] { hardware_.publish_trays(); }); });
  if (config_.start_paused) state_ = RunState::kPaused;
  kvm_.emplace(TRY(Kvm::open()));
  return power_on(std::move(files));
}

Result<StartFiles> KvmMachine::open_files() {
  if (!config_.firmware_path.empty()) {
    FirmwareStart start{
        .image = TRY(boot::open_firmware(config_.firmware_path, layout::kMaxFirmwareBytes)),
        .again = boards_ > 0};
    if (!config_.uefi_template_path.empty() && uefi_variables_ == nullptr)
      uefi_variables_ =
          TRY(boot::UefiVariables::open(config_.uefi_variables_path, config_.uefi_template_path,
                                        {layout::kFirmwareEnd - start.image.image.size()}));
    start.variables = uefi_variables_.get();
    return start;
  }
  const auto cache = config_.kernel_cache.empty() ? boot::KernelCache()
                                                  : boot::KernelCache::open(config_.kernel_cache);
  return boot::open_files(config_.kernel_path, config_.initrd_path, cache);
}

Result<void> KvmMachine::power_on(StartFiles files) {
  const bool wakes = std::holds_alternative<WakeStart>(files);
  if (!wakes) written_before_start_ = written_bytes();
  gate_.disconnect();
  jobs_.clear();
  panic_timer_.disarm();
  if (pvpanic_event_) panic_timer_.arm(kPanicTimeout);  // the guest went to sleep after a panic
  inspector_.set_board(nullptr);
  hardware_.set_board(nullptr);
  const uint32_t leaving = board_ == nullptr ? 0 : board_->leaving_slots(!wakes);
  board_.reset();  // frees its memory before the next board allocates as much
  hardware_.complete_removals(leaving);
  ++boards_;
  board_ = TRY(
      Board::create(config_, std::move(files), *kvm_, *peripherals_, main_loop_, clock_,
                    {.power_off = [this] { end(Ending::kPoweredOff, 0); },
                     .reset = [this] { end(Ending::kRebooted, 0); },
                     .panicked =
                         [this] {
                           if (pvpanic_event_.exchange(true)) return;
                           panic_timer_.arm(kPanicTimeout);
                           post([this] { publish({.kind = MachineEvent::Kind::kGuestPanicked}); });
                         },
                     .suspend_to_ram = [this] { suspend(); },
                     .suspend_to_disk =
                         [this] {
                           to_disk_ = true;
                           end(Ending::kPoweredOff, 0);
                         },
                     .rtc_alarm = [this] { post_once(alarm_posted_, [this] { check_wake(); }); },
                     .balloon_changed =
                         [this] {
                           post_once(balloon_posted_, [this] {
                             publish({.kind = MachineEvent::Kind::kBalloonChange,
                                      .value = hardware_.balloon_bytes().value_or(0)});
                           });
                         },
                     .ejected =
                         [this, board = boards_](uint32_t slots) {
                           post([this, board, slots] {
                             if (board == boards_) hardware_.ejected(slots);
                           });
                         },
                     .debug_exit = [this](uint32_t value) { debug_exit(value); }}));
  cmdline_ = board_->cmdline();
  clock_.forget_board();
  gate_.connect(board_->vcpus(), state_ != RunState::kRunning || pausing_);
  if (pausing_) gate_.stop([this] { vcpus_stopped(); });  // continues a pause that had begun
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
    const bool woken = take_suspend() && sleep();
    if (!woken && !wants_reset()) {
      publish_end();
      return report();
    }
    const auto again = woken ? wake() : reset_board();
    if (!again) {
      end_with(Ending::kHostFailed, 0, again.error().message());
      publish_end();
      return report();
    }
  }
}

Result<void> KvmMachine::reset_board() {
  const bool by_host = [this] {
    const MutexLock lock(mutex_);
    return std::exchange(host_reset_, false);
  }();
  publish({.kind = MachineEvent::Kind::kReset,
           .guest = !by_host,
           .reason = by_host ? "host-qmp-system-reset" : "guest-reset"});
  if (state_ == RunState::kSuspended) state_ = RunState::kRunning;
  return power_on(TRY(open_files()));
}

// Runs the vCPUs and the main loop until the loop is stopped. On return the vCPUs have stopped,
// too.
void KvmMachine::run_board() {
  exits_at_last_check_.assign(board_->vcpus().size(), 0);
  halted_checks_ = 0;
  if (state_ != RunState::kRunning) {
    peripherals_->pause();
    clock_.stop(board_->vm());
  }
  // The vCPU threads inherit the signal mask of the main thread. This mask blocks the signals that
  // wick handles, so they are not delivered to a vCPU's thread.
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
  // Drops debug stops of the old board that were not reported to the debugger, and a pause that
  // only they required.
  if (!std::exchange(debug_stops_, {}).empty() && pausing_ == RunState::kDebug) {
    pausing_.reset();
    if (!when_paused_.empty()) pausing_ = RunState::kPaused;
  }
  peripherals_->resume();  // a device must not wait for held requests when it is destroyed
}

// Returns true, and clears the ending, if the host has requested a reset, or if the guest reboots
// with --on-reboot reset. A guest that reboots after a panic ends the run anyway, because it would
// panic again and again.
bool KvmMachine::wants_reset() {
  const MutexLock lock(mutex_);
  if (ending_ != Ending::kRebooted) return false;
  if (!host_reset_ && (!config_.reset_on_reboot || panicked())) return false;
  ended_ = false;
  if (host_reset_) {
    pvpanic_event_ = false;
    for (const auto& port : peripherals_->consoles()) port->forget_panic();
  }
  return true;
}

// A panic message on a console alone does not end the run, because a user of the guest may print
// such a text. report() looks for the message only after a reboot, a halt or a triple fault; a
// guest that powers off has not panicked.
bool KvmMachine::panicked() const {
  return pvpanic_event_ || std::ranges::any_of(peripherals_->consoles(), [](const auto& port) {
           return port->transcript().panicked();
         });
}

// Returns the number of bytes that all consoles have got from the guest since the run began.
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
    report.debug_exit_value = debug_exit_value_;
    report.detail = detail_;
  }
  if (auto finished = peripherals_->finish(); !finished) {
    report.ending = Ending::kHostFailed;
    report.detail = finished.error().message();
  }
  const bool stopped = report.ending == Ending::kRebooted || report.ending == Ending::kHalted ||
                       report.ending == Ending::kTripleFault;
  if (stopped && panicked()) report.ending = Ending::kPanicked;
  // A guest with a screen never counts as silent, because its output to the screen is not counted.
  report.silent = !config_.vnc && written_bytes() == written_before_start_;
  report.registers_were_reset = report.ending == Ending::kTripleFault && Kvm::resets_on_shutdown();
  for (const auto& port : peripherals_->consoles())
    if (report.console_lines.empty())
      report.console_lines = port->transcript().last_lines(kReportedConsoleLines);
  if (board_ == nullptr) return report;
  report.multiboot = board_->starts_multiboot();
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

void KvmMachine::end_with(Ending ending, int signal, std::string detail, bool by_host) {
  const MutexLock lock(mutex_);
  // While a machine is being reset, the host can still end the run, but the guest cannot.
  const bool from_host = ending == Ending::kSignal || ending == Ending::kQuit || by_host ||
                         ending == Ending::kTimeout || ending == Ending::kHostFailed;
  const bool resetting =
      suspended_ || (ending_ == Ending::kRebooted && (host_reset_ || config_.reset_on_reboot));
  if (ended_ && !(resetting && from_host)) return;
  host_reset_ = by_host;
  ended_ = true;
  suspended_ = false;
  ending_ = ending;
  signal_ = signal;
  detail_ = std::move(detail);
  main_loop_.stop();
}

// The first value counts: the guest may write to the port again until its vCPUs have stopped.
void KvmMachine::debug_exit(uint32_t value) {
  {
    const MutexLock lock(mutex_);
    if (ended_) return;
    debug_exit_value_ = value;
  }
  end_with(Ending::kDebugExit, 0, {});
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

// Ends the run if all vCPUs are halted for good. KVM handles HLT in the kernel without an exit, so
// the state of each vCPU that has had no exits is checked. Two checks in a row are necessary,
// because the vCPUs are checked at different moments, and one may wake another in between.
void KvmMachine::check_for_halt() {
  if (state_ != RunState::kRunning || pausing_ || !jobs_.empty()) {
    halted_checks_ = 0;
    return;
  }
  const auto& vcpus = board_->vcpus();
  bool all_halted = true;
  for (size_t i = 0; i < vcpus.size(); ++i) {
    const uint64_t exits = vcpus[i]->exits();
    const bool idle = exits == exits_at_last_check_[i];
    // The result of the last check is valid only if the vCPU has had no exit since that check.
    all_halted = all_halted && idle && vcpus[i]->halted_for_good();
    if (idle) vcpus[i]->request_halt_check();
    exits_at_last_check_[i] = idle ? exits + 1 : exits;  // the check itself causes one exit
  }
  halted_checks_ = all_halted ? halted_checks_ + 1 : 0;
  if (halted_checks_ == 2) end(Ending::kHalted, 0);
}

std::string KvmMachine::timeout_detail() const {
  if (state_ == RunState::kSuspended) return "the guest was asleep (S3)";
  const bool halted =
      std::ranges::all_of(board_->vcpus(), [](const auto& vcpu) { return vcpu->halted(); });
  return fmt::format("the guest was {}{}", halted ? "halted, waiting for an interrupt" : "running",
                     written_bytes() > 0 ? "" : " and had never written anything");
}

void KvmMachine::stop_vcpus() {
  if (board_ == nullptr) return;
  for (const auto& vcpu : board_->vcpus()) vcpu->request_stop();
  for (std::thread& thread : vcpu_threads_) thread.join();
  vcpu_threads_.clear();
}

}  // namespace wick::vmm
