#include "vmm/machine.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "vmm/board.h"
#include "vmm/kvm_counters.h"
#include "vmm/peripherals.h"

namespace wick {

namespace {

// A vCPU that has not come back from the guest for this long may be halted for
// good; then it is asked.
constexpr std::chrono::seconds kHaltCheckPeriod{1};
// A guest that said by pvpanic that it panicked has this long to print why, and
// to end by itself.
constexpr std::chrono::seconds kPanicPatience{1};
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
  void press_power_button() override { board_->press_power_button(); }
  void update_disk_sizes() override { peripherals_->update_disk_sizes(); }

 private:
  Result<void> power_on();
  void run_board();
  bool wants_reset();
  bool panicked() const;
  uint64_t written_bytes() const;
  RunReport report();
  void end_with(Ending ending, int signal, std::string detail);
  void vcpu_ended(const VcpuExit& exit);
  void check_for_halt();
  void stop_vcpus();
  std::string timeout_detail() const;
  RunStats stats() const;

  const MachineConfig config_;
  EventLoop& main_loop_;
  std::optional<Kvm> kvm_;
  std::optional<Peripherals> peripherals_;
  std::unique_ptr<Board> board_;  // none: a reset failed
  std::string cmdline_;
  uint64_t written_before_start_ = 0;  // written_bytes() when the board was built
  EventLoop::Timer panic_timer_;
  std::atomic<bool> said_panic_{false};  // by pvpanic
  std::vector<std::thread> vcpu_threads_;
  std::vector<uint64_t> exits_at_last_check_;
  int halted_checks_ = 0;  // how many in a row found all vCPUs halted for good

  std::mutex mutex_;
  // Guarded by mutex_.
  bool ended_ = false;
  Ending ending_ = Ending::kPoweredOff;
  int signal_ = 0;
  std::string detail_;
};

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const MachineConfig& config,
                                                 EventLoop& main_loop) {
  auto machine = std::make_unique<KvmMachine>(config, main_loop);
  TRY(machine->build());
  return machine;
}

namespace {

Result<void> KvmMachine::build() {
  kvm_.emplace(TRY(Kvm::open()));
  const console::TerminalKeys keys{.quit = [this] { end(Ending::kQuit, 0); },
                                   .power_button = [this] { press_power_button(); }};
  panic_timer_ = TRY(main_loop_.timer([this] { end(Ending::kPanicked, 0); }));
  peripherals_.emplace(TRY(Peripherals::create(config_, main_loop_, keys)));
  return power_on();
}

Result<void> KvmMachine::power_on() {
  written_before_start_ = written_bytes();
  board_.reset();  // before the next one, whose memory is as large
  board_ = TRY(Board::create(config_, *kvm_, *peripherals_, main_loop_,
                             {.power_off = [this] { end(Ending::kPoweredOff, 0); },
                              .reset = [this] { end(Ending::kRebooted, 0); },
                              .panicked =
                                  [this] {
                                    said_panic_ = true;
                                    panic_timer_.arm(kPanicPatience);
                                  }}));
  cmdline_ = board_->cmdline();
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
    if (!wants_reset()) return report();
    if (auto again = power_on(); !again) {
      end_with(Ending::kHostFailed, 0, again.error().message());
      return report();
    }
  }
}

// Until something ends it.
void KvmMachine::run_board() {
  exits_at_last_check_.assign(board_->vcpus().size(), 0);
  halted_checks_ = 0;
  // The threads inherit the mask of the main thread: its signals stay there.
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
}

// Consumes the ending if it is a reboot that the user wants carried out. A
// panic ends the run all the same: else the machine would panic for ever.
bool KvmMachine::wants_reset() {
  const std::lock_guard lock(mutex_);
  if (ending_ != Ending::kRebooted || !config_.reset_on_reboot || panicked()) return false;
  ended_ = false;
  return true;
}

// The text alone ends nothing: a user may print it. A panic reboots (or halts,
// or falls into a triple fault), it never powers off.
bool KvmMachine::panicked() const {
  return said_panic_ || std::ranges::any_of(peripherals_->consoles(), [](const auto& port) {
           return port->transcript().panicked();
         });
}

// On all consoles, through all resets.
uint64_t KvmMachine::written_bytes() const {
  uint64_t bytes = 0;
  for (const auto& port : peripherals_->consoles()) bytes += port->transcript().end();
  return bytes;
}

RunReport KvmMachine::report() {
  RunReport report;
  {
    const std::lock_guard lock(mutex_);
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
  const std::lock_guard lock(mutex_);
  // The host may still end a machine that is about to be reset; what its guest
  // does meanwhile no longer counts.
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

// KVM handles HLT by itself and never says so; a vCPU that made no exit for a
// while is asked. Twice, because the answers are of different moments: one vCPU
// may have woken another between them.
void KvmMachine::check_for_halt() {
  const auto& vcpus = board_->vcpus();
  bool all_halted = true;
  for (size_t i = 0; i < vcpus.size(); ++i) {
    const uint64_t exits = vcpus[i]->exits();
    const bool idle = exits == exits_at_last_check_[i];
    // An older answer holds only as long as nothing has happened since.
    all_halted = all_halted && idle && vcpus[i]->halted_for_good();
    if (idle) vcpus[i]->request_halt_check();
    exits_at_last_check_[i] = idle ? exits + 1 : exits;  // the check itself costs one
  }
  halted_checks_ = all_halted ? halted_checks_ + 1 : 0;
  if (halted_checks_ == 2) end(Ending::kHalted, 0);
}

std::string KvmMachine::timeout_detail() const {
  const bool halted =
      std::ranges::all_of(board_->vcpus(), [](const auto& vcpu) { return vcpu->halted(); });
  return fmt::format("the guest was {}{}", halted ? "halted, waiting for an interrupt" : "running",
                     written_bytes() > 0 ? "" : ", and had never written anything");
}

void KvmMachine::stop_vcpus() {
  if (board_ == nullptr) return;
  for (const auto& vcpu : board_->vcpus()) vcpu->request_stop();
  for (std::thread& thread : vcpu_threads_) thread.join();
  vcpu_threads_.clear();
}

}  // namespace

}  // namespace wick
