#include "vmm/vcpu.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>

#include "vmm/cpuid.h"

namespace wick::vmm {

namespace {

// The signal that interrupts KVM_RUN; its handler does nothing.
int kick_signal() { return SIGRTMIN; }

void install_kick_handler() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(kick_signal(), &action, nullptr);
}

void unblock_only_kick() {
  sigset_t mask;
  sigfillset(&mask);
  sigdelset(&mask, kick_signal());
  // A fault in wick must still end the process.
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) sigdelset(&mask, fault);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

kvm_segment to_kvm(const boot::Segment& segment) {
  kvm_segment result{};
  result.base = segment.base;
  result.limit = segment.limit;
  result.selector = segment.selector;
  result.type = segment.type;
  result.present = segment.present;
  result.dpl = segment.dpl;
  result.db = segment.db;
  result.s = segment.s;
  result.l = segment.l;
  result.g = segment.g;
  result.unusable = segment.present ? 0 : 1;
  return result;
}

}  // namespace

Result<std::unique_ptr<Vcpu>> Vcpu::create(const Vm& vm, uint32_t index, uint32_t cpu_count,
                                           const Bus& ports, const Bus& mmio,
                                           CoalescedPorts& coalesced) {
  install_kick_handler();
  Fd fd(::ioctl(vm.fd(), KVM_CREATE_VCPU, index));
  if (!fd.valid()) return fail_errno(errno, "kvm: cannot create vCPU {}", index);
  void* area =
      ::mmap(nullptr, vm.kvm().run_area_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (area == MAP_FAILED)
    return fail_errno(errno, "kvm: cannot map the run area of vCPU {}", index);
  std::unique_ptr<Vcpu> vcpu(new Vcpu(vm, index, cpu_count == 1, ports, mmio, coalesced,
                                      std::move(fd), static_cast<kvm_run*>(area)));
  if (const size_t offset = vm.coalesced_ring_offset(); offset != 0)
    coalesced.set_ring(reinterpret_cast<CoalescedPorts::Ring*>(static_cast<char*>(area) + offset));
  TRY(vcpu->set_up(cpu_count));
  return vcpu;
}

Vcpu::~Vcpu() { ::munmap(run_, vm_.kvm().run_area_bytes()); }

Result<void> Vcpu::set_up(uint32_t cpu_count) {
  const auto cpuid =
      guest_cpuid(TRY(vm_.kvm().supported_cpuid()),
                  {.cpu = index_,
                   .cpu_count = cpu_count,
                   .tsc_deadline = vm_.kvm().capability(KVM_CAP_TSC_DEADLINE_TIMER) > 0});
  constexpr uint32_t kLa57 = 1 << 16;  // leaf 7, ECX
  five_level_paging_ = std::ranges::any_of(cpuid, [](const kvm_cpuid_entry2& entry) {
    return entry.function == 7 && entry.index == 0 && (entry.ecx & kLa57) != 0;
  });
  KvmCpuid list;
  if (cpuid.size() > list.entries.size())
    return fail("kvm: {} CPUID entries for vCPU {}, at most {}", cpuid.size(), index_,
                list.entries.size());
  std::ranges::copy(cpuid, list.entries.begin());
  list.count = static_cast<uint32_t>(cpuid.size());
  if (::ioctl(fd_.get(), kKvmSetCpuid2, &list) != 0)
    return fail_errno(errno, "kvm: KVM_SET_CPUID2 for vCPU {}", index_);

  // Set MSRs as firmware would: fast string instructions, and write-back memory by default
  // (Intel SDM 4, IA32_MISC_ENABLE, IA32_MTRR_DEF_TYPE). Also set the bits that mark branch trace
  // store and PEBS as unavailable, which KVM of older kernels leaves clear. The other bits of
  // IA32_MISC_ENABLE keep KVM's values.
  constexpr uint32_t kMiscEnable = 0x1a0;
  constexpr uint64_t kFastStrings = 1 << 0;
  constexpr uint64_t kBtsUnavailable = 1 << 11;
  constexpr uint64_t kPebsUnavailable = 1 << 12;
  KvmList<kvm_msr_entry, 2> msrs{.count = 1};
  msrs.entries[0].index = kMiscEnable;
  if (::ioctl(fd_.get(), kKvmGetMsrs, &msrs) != static_cast<int>(msrs.count))
    return fail_errno(errno, "kvm: KVM_GET_MSRS for vCPU {}", index_);
  msrs.entries[0].data |= kFastStrings | kBtsUnavailable | kPebsUnavailable;
  msrs.entries[1] = {.index = 0x2ff, .reserved = 0, .data = 0x806};
  msrs.count = 2;
  if (::ioctl(fd_.get(), kKvmSetMsrs, &msrs) != static_cast<int>(msrs.count))
    return fail_errno(errno, "kvm: KVM_SET_MSRS for vCPU {}", index_);

  // Virtual wire mode: the PIC is connected to LINT0 of the first CPU, NMI to LINT1
  // (MultiProcessor Specification 1.4, 3.6.2.2).
  kvm_lapic_state lapic{};
  if (::ioctl(fd_.get(), KVM_GET_LAPIC, &lapic) != 0)
    return fail_errno(errno, "kvm: KVM_GET_LAPIC for vCPU {}", index_);
  constexpr uint32_t kDeliverExtInt = 0x700;
  constexpr uint32_t kDeliverNmi = 0x400;
  if (index_ == 0) std::memcpy(lapic.regs + 0x350, &kDeliverExtInt, sizeof(kDeliverExtInt));
  std::memcpy(lapic.regs + 0x360, &kDeliverNmi, sizeof(kDeliverNmi));
  if (::ioctl(fd_.get(), KVM_SET_LAPIC, &lapic) != 0)
    return fail_errno(errno, "kvm: KVM_SET_LAPIC for vCPU {}", index_);
  return {};
}

Result<void> Vcpu::set_state(const boot::CpuState& state) {
  kvm_sregs sregs{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS, &sregs) != 0)
    return fail_errno(errno, "kvm: KVM_GET_SREGS for vCPU {}", index_);
  sregs.cs = to_kvm(state.cs);
  sregs.ds = to_kvm(state.ds);
  sregs.es = to_kvm(state.es);
  sregs.fs = to_kvm(state.fs);
  sregs.gs = to_kvm(state.gs);
  sregs.ss = to_kvm(state.ss);
  sregs.tr = to_kvm(state.tr);
  sregs.gdt.base = state.gdt.base;
  sregs.gdt.limit = state.gdt.limit;
  sregs.idt.base = state.idt.base;
  sregs.idt.limit = state.idt.limit;
  sregs.cr0 = state.cr0;
  sregs.cr3 = state.cr3;
  sregs.cr4 = state.cr4;
  sregs.efer = state.efer;
  if (::ioctl(fd_.get(), KVM_SET_SREGS, &sregs) != 0)
    return fail_errno(errno, "kvm: KVM_SET_SREGS for vCPU {}", index_);

  kvm_regs regs{};
  regs.rip = state.rip;
  regs.rax = state.rax;
  regs.rsp = state.rsp;
  regs.rbp = state.rbp;
  regs.rsi = state.rsi;
  regs.rbx = state.rbx;
  regs.rflags = state.rflags;
  if (::ioctl(fd_.get(), KVM_SET_REGS, &regs) != 0)
    return fail_errno(errno, "kvm: KVM_SET_REGS for vCPU {}", index_);
  return {};
}

VcpuExit Vcpu::run() {
  {
    const MutexLock lock(mutex_);
    thread_ = pthread_self();
    running_ = true;
  }
  thread_id_ = ::gettid();
  unblock_only_kick();
  const struct Finally {
    Vcpu& vcpu;
    ~Finally() {
      const MutexLock lock(vcpu.mutex_);
      vcpu.running_ = false;
    }
  } finally{*this};

  if (counts_) counts_->start();
  for (;;) {
    // The request flags need not be checked before the entry: each request also sets
    // immediate_exit, with which KVM_RUN returns at once.
    notice_stop();
    const int entered = ::ioctl(fd_.get(), KVM_RUN, 0);
    const int error = errno;  // of this call; the devices below may change errno
    if (counts_) counts_->left_guest();
    coalesced_.deliver();
    const uint32_t reason = entered == 0 ? run_->exit_reason : uint32_t{KVM_EXIT_INTR};
    switch (reason) {
      case KVM_EXIT_IO:
        handle_io();
        break;
      case KVM_EXIT_MMIO:
        handle_mmio();
        break;
      case KVM_EXIT_INTR:
        if (entered != 0 && error != EINTR && error != EAGAIN)
          return {VcpuExit::Kind::kHostError,
                  fmt::format("kvm: KVM_RUN on vCPU {}: {}", index_, std::strerror(error))};
        std::atomic_ref(run_->immediate_exit).store(0);
        if (stop_.load()) return {VcpuExit::Kind::kStopped, {}};
        if (halt_check_.exchange(false)) check_halt();
        if (nmi_.exchange(false)) inject_nmi();
        note({.reason = KVM_EXIT_INTR});
        if (pause_.load()) wait_for_resume();
        break;
      case KVM_EXIT_HLT:
        // KVM reports HLT only without an in-kernel APIC, or if it emulates guest kernel code.
        if (run_->if_flag == 0 && alone_) return {VcpuExit::Kind::kHalted, {}};
        note({.reason = KVM_EXIT_HLT});
        break;
      case KVM_EXIT_DEBUG:
        note({.reason = KVM_EXIT_DEBUG});
        stop_for_debugger();
        break;
      default:
        if (counts_) counts_->count({.reason = reason});
        return ended(reason);
    }
    if (counts_) counts_->count(last_exit());
  }
}

void Vcpu::check_halt() {
  reevaluate_interrupts();
  halted_for_good_ = halted() && run_->if_flag == 0;
  kvm_regs regs{};
  if (::ioctl(fd_.get(), KVM_GET_REGS, &regs) != 0) return;
  sampled_rip_ = regs.rip;
  sampled_after_exits_ = exits();
}

VcpuExit Vcpu::ended(uint32_t reason) const {
  switch (reason) {
    case KVM_EXIT_SHUTDOWN:
      return {VcpuExit::Kind::kShutdown,
              fmt::format("vCPU {}, after {}", index_,
                          exits() == 0 ? "no exit" : vmm::describe(last_exit(), ports_, mmio_))};
    case KVM_EXIT_INTERNAL_ERROR:
      return internal_error();
    case KVM_EXIT_FAIL_ENTRY:
      return {VcpuExit::Kind::kKvmError,
              fmt::format("vCPU {}: failed entry, hardware reason {:#x}", index_,
                          run_->fail_entry.hardware_entry_failure_reason)};
    default:
      return {VcpuExit::Kind::kKvmError,
              fmt::format("vCPU {}: unexpected exit ({})", index_, exit_reason_name(reason))};
  }
}

void Vcpu::handle_io() {
  const auto& io = run_->io;
  const bool out = io.direction == KVM_EXIT_IO_OUT;
  note({.address = io.port, .reason = KVM_EXIT_IO, .size_bytes = io.size, .write = out});
  auto* const data = reinterpret_cast<std::byte*>(run_) + io.data_offset;
  if (io.count == 1)
    access_port(out, io.port, data, io.size);
  else
    handle_string_io(out, data);
}

// Not inlined: if handle_io() contained this loop, it would save many more registers at each exit.
void Vcpu::handle_string_io(bool out, std::byte* data) const {
  const uint16_t port = run_->io.port;
  const size_t size_bytes = run_->io.size;
  const uint32_t count = run_->io.count;
  for (uint32_t i = 0; i < count; ++i, data += size_bytes) access_port(out, port, data, size_bytes);
}

void Vcpu::handle_mmio() {
  auto& mmio = run_->mmio;
  const std::span access(reinterpret_cast<std::byte*>(mmio.data), std::min(mmio.len, 8u));
  const bool write = mmio.is_write != 0;
  note({.address = mmio.phys_addr,
        .reason = KVM_EXIT_MMIO,
        .size_bytes = static_cast<uint8_t>(access.size()),
        .write = write});
  if (write)
    mmio_.write(mmio.phys_addr, access);
  else
    mmio_.read(mmio.phys_addr, access);
}

VcpuExit Vcpu::internal_error() const {
  const auto& error = run_->internal;
  const char* name = "unknown";
  switch (error.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      name = "emulation failed";
      break;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      name = "simultaneous exceptions";
      break;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      name = "event delivery failed";
      break;
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      name = "unexpected hardware exit";
      break;
    default:
      break;
  }
  std::string data;
  for (size_t i = 0; i < std::min<size_t>(error.ndata, std::size(error.data)); ++i)
    data += fmt::format(" {:#x}", error.data[i]);
  return {VcpuExit::Kind::kKvmError,
          fmt::format("vCPU {}: KVM internal error {} ({}){}{}", index_, error.suberror, name,
                      data.empty() ? "" : ", data", data)};
}

void Vcpu::kick() {
  std::atomic_ref(run_->immediate_exit).store(1);
  const MutexLock lock(mutex_);
  if (running_) pthread_kill(thread_, kick_signal());
}

void Vcpu::request_stop() {
  stop_ = true;
  kick();
  const MutexLock lock(mutex_);
  resumed_.notify_all();
}

// The vCPU's own thread calls KVM_NMI, because the ioctl would block until KVM_RUN returns.
void Vcpu::request_nmi() {
  nmi_ = true;
  kick();
}

void Vcpu::inject_nmi() {
  if (::ioctl(fd_.get(), KVM_NMI, 0) != 0)
    spdlog::error("kvm: KVM_NMI on vCPU {}: {}", index_, std::strerror(errno));
}

void Vcpu::request_pause() {
  {
    const MutexLock lock(mutex_);
    pause_ = true;
  }
  kick();
}

void Vcpu::resume() {
  const MutexLock lock(mutex_);
  pause_ = false;
  ++resumes_;
  resumed_.notify_all();
}

// Is called after KVM_RUN has returned EINTR, or for an exit that needs no answer. By then KVM has
// completed the device access of the previous exit, if there was one (api.rst, KVM_RUN).
void Vcpu::wait_for_resume() {
  MutexLock lock(mutex_);
  if (!pause_) return;
  // Waits for a change of resumes_, not of pause_: the vCPU may be resumed and paused again before
  // this thread runs.
  const uint64_t resumes = resumes_;
  lock.unlock();
  if (events_.paused) events_.paused(resumes);
  lock.lock();
  while (resumes_ == resumes && !stop_) resumed_.wait(lock);
}

// Tells the guest that it did not run (PVCLOCK_GUEST_STOPPED) if the wick process was stopped, so
// that the guest's watchdogs ignore the gap, although its clock went on. The halt check makes each
// vCPU leave the guest at least once per second. So if the last entry is longer ago, the process
// was stopped, no matter where this thread was (KVM_RUN need not have returned EINTR). When the
// host sleeps, KVM itself tells the guest. The call is harmless if the guest did run, and fails if
// the guest does not use kvmclock.
void Vcpu::notice_stop() {
  constexpr std::chrono::seconds kLongestWait{3};
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);  // this clock costs only a few nanoseconds
  if (now.tv_sec - std::exchange(last_entry_s_, now.tv_sec) > kLongestWait.count())
    (void)::ioctl(fd_.get(), KVM_KVMCLOCK_CTRL, 0);
}

void Vcpu::request_halt_check() {
  halt_check_ = true;
  kick();
}

// KVM_SET_MP_STATE makes KVM check again for interrupts to inject. Usually KVM checks when an
// interrupt arrives; if the guest cannot take the interrupt at that time, KVM requests an
// interrupt-window exit from the CPU. An emulated CPU below KVM may lose that request (QEMU's TCG
// does, in one boot of twenty), and the guest would wait for ever.
void Vcpu::reevaluate_interrupts() const {
  kvm_mp_state state{};
  if (::ioctl(fd_.get(), KVM_GET_MP_STATE, &state) == 0 &&
      (state.mp_state == KVM_MP_STATE_HALTED || state.mp_state == KVM_MP_STATE_RUNNABLE))
    (void)::ioctl(fd_.get(), KVM_SET_MP_STATE, &state);
}

bool Vcpu::halted() const {
  kvm_mp_state state{};
  if (::ioctl(fd_.get(), KVM_GET_MP_STATE, &state) != 0) return false;
  // UNINITIALIZED and INIT_RECEIVED: the guest has not started this CPU (yet).
  return state.mp_state == KVM_MP_STATE_HALTED || state.mp_state == KVM_MP_STATE_UNINITIALIZED ||
         state.mp_state == KVM_MP_STATE_INIT_RECEIVED;
}

std::string Vcpu::describe_last_exits() const {
  if (exits() == 0) return "no exit\n";
  const uint64_t oldest = exits() - std::min<uint64_t>(exits(), last_exits_.size());
  std::string text = fmt::format("exits {} to {}:\n", oldest + 1, exits());
  for (uint64_t i = oldest; i < exits();) {
    const VmExit& exit = last_exits_[i % last_exits_.size()];
    const uint64_t first = i;
    while (i < exits() && last_exits_[i % last_exits_.size()] == exit) ++i;
    text += fmt::format("  {}{}\n", vmm::describe(exit, ports_, mmio_),
                        i - first == 1 ? "" : fmt::format(", {} times", i - first));
  }
  if (sampled_rip_ != 0)
    text += fmt::format("after exit {}, rip was {:#018x}\n", sampled_after_exits_, sampled_rip_);
  return text;
}

std::string Vcpu::describe(const GuestMemory& memory) const {
  kvm_regs r{};
  kvm_sregs s{};
  if (::ioctl(fd_.get(), KVM_GET_REGS, &r) != 0 || ::ioctl(fd_.get(), KVM_GET_SREGS, &s) != 0)
    return fmt::format("vCPU {}: registers unavailable: {}\n", index_, std::strerror(errno));
  std::string text = fmt::format(
      "vCPU {}: rip={:016x} rflags={:08x}\n"
      "  rax={:016x} rbx={:016x} rcx={:016x} rdx={:016x}\n"
      "  rsi={:016x} rdi={:016x} rsp={:016x} rbp={:016x}\n"
      "   r8={:016x}  r9={:016x} r10={:016x} r11={:016x}\n"
      "  r12={:016x} r13={:016x} r14={:016x} r15={:016x}\n"
      "  cs={:04x} ss={:04x} ds={:04x} es={:04x} fs={:04x} gs={:04x} tr={:04x}\n"
      "  cr0={:08x} cr2={:016x} cr3={:016x} cr4={:08x} efer={:04x}\n",
      index_, r.rip, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9,
      r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, s.cs.selector, s.ss.selector, s.ds.selector,
      s.es.selector, s.fs.selector, s.gs.selector, s.tr.selector, s.cr0, s.cr2, s.cr3, s.cr4,
      s.efer);

  kvm_translation translation{};
  translation.linear_address = s.cs.base + r.rip;
  if (::ioctl(fd_.get(), KVM_TRANSLATE, &translation) != 0 || translation.valid == 0)
    return text + "  no memory at rip\n";
  text += "  code at rip:";
  for (uint64_t i = 0; i < 16; ++i) {
    const auto byte = memory.read<uint8_t>({translation.physical_address + i});
    if (!byte) break;
    text += fmt::format(" {:02x}", *byte);
  }
  return text + "\n";
}

}  // namespace wick::vmm
