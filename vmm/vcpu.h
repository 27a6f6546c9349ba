// One virtual CPU and its run loop: enter the guest, see why it came back,
// hand port and memory accesses to the buses.
//
// Thread rule: set_state() and run() on one thread, the vCPU's; request_stop(),
// request_halt_check(), halted_for_good() and exits() from any; the rest when
// run() has returned.
#pragma once

#include <linux/kvm.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/bus.h"
#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/cpu_state.h"
#include "vmm/exit_counts.h"
#include "vmm/vm.h"

namespace wick {

// Why run() returned, and a text for people where there is more to say.
struct VcpuExit {
  enum class Kind {
    kStopped,    // request_stop()
    kHalted,     // HLT with interrupts off: nothing of the guest's own can wake it
    kShutdown,   // triple fault
    kKvmError,   // KVM cannot go on: internal error, failed entry, unknown exit
    kHostError,  // KVM_RUN failed
  };
  Kind kind = Kind::kStopped;
  std::string detail;
};

class Vcpu {
 public:
  // All must outlive it.
  static Result<std::unique_ptr<Vcpu>> create(const Vm& vm, uint32_t index, uint32_t cpu_count,
                                              const Bus& ports, const Bus& mmio);
  ~Vcpu();
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  // The registers with which it will start.
  Result<void> set_state(const boot::CpuState& state);

  VcpuExit run();

  // Makes run() return soon; also when it has not begun.
  void request_stop();
  // Makes the vCPU look whether it is halted for good. run() does not return
  // for that; halted_for_good() answers when exits() has moved.
  void request_halt_check();
  bool halted_for_good() const { return halted_for_good_.load(); }
  // How often it came back from the guest so far.
  uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }

  // Before run(): counts and times every exit, which costs two readings of the
  // clock for each.
  void keep_stats() { counts_.emplace(ports_, mmio_); }
  const std::optional<ExitCounts>& stats() const { return counts_; }

  // For KVM's statistics, and for benchmarks against a loop without any of this.
  int fd() const { return fd_.get(); }
  const kvm_run* run_area() const { return run_; }

  // Was it waiting when it stopped, for an interrupt or to be started?
  bool halted() const;
  // Registers and the bytes at RIP, as lines for people.
  std::string describe(const GuestMemory& memory) const;
  // Its last exits before the one that ended the run, likewise.
  std::string describe_last_exits() const;

 private:
  Vcpu(const Vm& vm, uint32_t index, bool alone, const Bus& ports, const Bus& mmio, Fd fd,
       kvm_run* run)
      : vm_(vm),
        index_(index),
        alone_(alone),
        ports_(ports),
        mmio_(mmio),
        fd_(std::move(fd)),
        run_(run) {}

  Result<void> set_up(uint32_t cpu_count);
  void kick();
  void note(const VmExit& exit) {
    // One writer: no need for a locked addition.
    const uint64_t count = exits();
    last_exits_[count % last_exits_.size()] = exit;
    exits_.store(count + 1, std::memory_order_relaxed);
  }
  const VmExit& last_exit() const { return last_exits_[(exits() - 1) % last_exits_.size()]; }
  void check_halt();
  void ask_again() const;
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

  // Constant after construction.
  const Vm& vm_;
  const uint32_t index_;
  const bool alone_;  // no other vCPU can wake it
  const Bus& ports_;
  const Bus& mmio_;
  const Fd fd_;
  kvm_run* const run_;  // shared with the kernel

  // Owned by the vCPU's thread.
  std::optional<ExitCounts> counts_;
  std::array<VmExit, 16> last_exits_;  // at the count of exits, modulo
  uint64_t sampled_rip_ = 0;           // at the last halt check, 0: none
  uint64_t sampled_after_exits_ = 0;

  std::atomic<uint64_t> exits_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> halt_check_{false};
  std::atomic<bool> halted_for_good_{false};

  std::mutex mutex_;
  // Guarded by mutex_.
  pthread_t thread_{};
  bool running_ = false;
};

}  // namespace wick
