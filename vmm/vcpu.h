// One virtual CPU and its run loop, which enters the guest, handles each exit, and passes port
// and MMIO accesses to the buses.
//
// Thread rule: run() on the vCPU's thread, set_state() and on_event() before it; request_stop(),
// request_pause(), resume(), request_nmi(), request_halt_check(), halted_for_good(), thread_id()
// and exits() from any thread; the rest after run() has returned, or while the vCPU is paused.
#pragma once

#include <linux/kvm.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/bus.h"
#include "base/guest_memory.h"
#include "base/mutex.h"
#include "base/result.h"
#include "boot/cpu_state.h"
#include "vmm/coalesced_ports.h"
#include "vmm/exit_counts.h"
#include "vmm/inspector.h"
#include "vmm/vm.h"

namespace wick::vmm {

// Why run() returned, and details for the user; the details may be empty.
struct VcpuExit {
  enum class Kind {
    kStopped,    // request_stop() was called
    kHalted,     // HLT with interrupts off: nothing in the guest can wake the vCPU
    kShutdown,   // the guest caused a triple fault
    kKvmError,   // KVM cannot continue: internal error, failed entry, unknown exit
    kHostError,  // KVM_RUN failed
  };
  Kind kind = Kind::kStopped;
  std::string detail;
};

class Vcpu {
 public:
  // The references must outlive the vCPU.
  static Result<std::unique_ptr<Vcpu>> create(const Vm& vm, uint32_t index, uint32_t cpu_count,
                                              const Bus& ports, const Bus& mmio,
                                              CoalescedPorts& coalesced);
  ~Vcpu();
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  // Returns true if the guest may set CR4.LA57.
  bool has_five_level_paging() const { return five_level_paging_; }
  // Sets the initial registers.
  Result<void> set_state(const boot::CpuState& state);

  VcpuExit run();

  // Makes run() return soon, even if it has not begun yet.
  void request_stop();
  // Makes run() wait until resume(), between two guest instructions and with no device access half
  // done. Events::paused is called each time it begins to wait.
  void request_pause();
  void resume();
  // Called on the vCPU's thread. The functions must not wait for the thread that calls
  // request_pause() or resume().
  struct Events {
    std::function<void(uint64_t resumes)> paused;  // `resumes`: number of resume() calls so far
    std::function<void(const DebugStop& stop)> debug_stop;  // called before the vCPU pauses
  };
  void on_event(Events events) { events_ = std::move(events); }

  // How the vCPU stops for a debugger. May be set only while the vCPU is paused.
  struct Debug {
    bool enabled = false;
    bool step = false;             // stops after one instruction, with interrupts masked
    bool pass_breakpoint = false;  // delivers the INT3 that stopped the vCPU to the guest
    std::span<const HardwareBreakpoint> breakpoints = {};
  };
  Result<void> set_debug(const Debug& debug);
  // Makes the vCPU's thread inject an NMI.
  void request_nmi();
  // Translates a linear address with the vCPU's page tables; nullopt: it is not mapped.
  std::optional<GuestAddress> translate(uint64_t linear) const;
  // The thread that runs the vCPU; 0 before run().
  pid_t thread_id() const { return thread_id_.load(); }

  // Makes the vCPU's thread check whether the vCPU is halted for good. run() does not return.
  // The result is in halted_for_good() once exits() has changed.
  void request_halt_check();
  bool halted_for_good() const { return halted_for_good_.load(); }
  // The number of exits so far.
  uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }

  // Must be called before run(). Counts and times every exit, at the cost of two clock reads per
  // exit.
  void keep_stats() { counts_.emplace(ports_, mmio_); }
  const std::optional<ExitCounts>& stats() const { return counts_; }

  // For KVM's statistics, and for benchmarks that compare with a bare KVM_RUN loop.
  int fd() const { return fd_.get(); }
  const kvm_run* run_area() const { return run_; }

  // True if the vCPU is waiting for an interrupt or for its start (INIT, SIPI).
  bool halted() const;
  // Returns the registers and the bytes at RIP, as text lines.
  std::string describe(const GuestMemory& memory) const;
  // Returns the last exits as text lines, without the exit that ended the run.
  std::string describe_last_exits() const;

 private:
  Vcpu(const Vm& vm, uint32_t index, bool alone, const Bus& ports, const Bus& mmio,
       CoalescedPorts& coalesced, Fd fd, kvm_run* run)
      : vm_(vm),
        index_(index),
        alone_(alone),
        ports_(ports),
        mmio_(mmio),
        coalesced_(coalesced),
        fd_(std::move(fd)),
        run_(run) {}

  Result<void> set_up(uint32_t cpu_count);
  void kick();
  void note(const VmExit& exit) {
    // Only this thread writes, so an atomic addition is not necessary.
    const uint64_t count = exits();
    last_exits_[count % last_exits_.size()] = exit;
    exits_.store(count + 1, std::memory_order_relaxed);
  }
  const VmExit& last_exit() const { return last_exits_[(exits() - 1) % last_exits_.size()]; }
  void check_halt();
  void inject_nmi();
  void wait_for_resume();
  void notice_stop();
  void stop_for_debugger();
  void reevaluate_interrupts() const;
  void handle_io();
  [[gnu::noinline]] void handle_string_io(bool out, std::byte* data) const;
  void access_port(bool out, uint16_t port, std::byte* data, size_t size_bytes) const {
    if (out)
      ports_.write(port, {data, size_bytes});
    else
      ports_.read(port, {data, size_bytes});
  }
  void handle_mmio();
  VcpuExit ended(uint32_t reason) const;
  VcpuExit internal_error() const;

  // Constant after create().
  const Vm& vm_;
  const uint32_t index_;
  const bool alone_;  // the machine has no other vCPU, which could wake this one
  const Bus& ports_;
  const Bus& mmio_;
  CoalescedPorts& coalesced_;
  const Fd fd_;
  kvm_run* const run_;  // shared with the kernel
  bool five_level_paging_ = false;

  // Owned by the vCPU's thread.
  std::optional<ExitCounts> counts_;
  std::array<VmExit, 16> last_exits_;  // a ring, indexed by the number of the exit
  uint64_t sampled_rip_ = 0;           // RIP at the last halt check; 0: no check yet
  uint64_t sampled_after_exits_ = 0;   // exits() at the last halt check
  time_t last_entry_s_ = 0;            // when KVM_RUN was last entered; see notice_stop()

  std::atomic<uint64_t> exits_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> halt_check_{false};
  std::atomic<bool> halted_for_good_{false};
  std::atomic<bool> nmi_{false};
  std::atomic<bool> pause_{false};  // changed with mutex_ held
  std::atomic<pid_t> thread_id_{0};
  Events events_;  // constant once run() has begun

  Mutex mutex_;
  std::condition_variable_any resumed_;
  uint64_t resumes_ GUARDED_BY(mutex_) = 0;  // the number of resume() calls
  pthread_t thread_ GUARDED_BY(mutex_){};
  bool running_ GUARDED_BY(mutex_) = false;
};

}  // namespace wick::vmm
