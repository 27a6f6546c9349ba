// A machine without a guest, for tests of control/ and debug/. It does at once what a real one
// does in time, records what was asked, and has devices that a test may change.
#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "vmm/machine.h"

namespace wick::vmm {

class FakeMachine : public Machine, public Inspector, public Hardware {
 public:
  static constexpr uint64_t kMemoryBytes = 16 << 20;

  explicit FakeMachine(uint32_t cpus = 2) {
    config_.name = "fake";
    config_.cpus = cpus;
    config_.memory_bytes = kMemoryBytes;
    registers_.resize(cpus);
    fpus_.resize(cpus);
    const std::vector<GuestMemory::Range> ranges{{{0}, kMemoryBytes}};
    memory_.emplace(*GuestMemory::create(ranges));
  }

  // What the tests look at or change.
  MachineConfig config_;
  RunState state_ = RunState::kRunning;
  std::vector<std::string> log_;  // the calls, "resize_disk vda 1048576"
  std::vector<CpuRegisters> registers_;
  std::vector<FpuRegisters> fpus_;
  std::map<uint64_t, uint64_t> pages_;  // linear to physical, by 4 KiB; empty: all is mapped 1:1
  std::map<uint32_t, uint64_t> msrs_;
  std::vector<std::byte> vmcoreinfo_;
  std::vector<HardwareBreakpoint> breakpoints_;
  std::vector<CpuRun> last_run_;
  std::function<void(const DebugStop&)> on_stop_;
  std::function<void()> on_resume_cpus_;       // may report a stop
  std::function<void()> on_pause_;             // if set, it must call finish_pause()
  std::vector<std::function<void()>> pauses_;  // that have not finished
  std::vector<DiskInfo> disks_;
  std::vector<CardInfo> cards_;
  std::vector<PciInfo> pci_;
  std::vector<ConsoleInfo> consoles_;
  std::optional<uint64_t> balloon_;
  bool keyboard_ = false;
  std::optional<Error> attach_refusal_;
  std::optional<Error> refusal_;  // the answer of all that can fail, if set

  void publish(const MachineEvent& event) {
    const auto observers = observers_;
    for (const auto& [number, observer] : observers) observer(event);
  }
  // As if a vCPU had stopped by itself.
  void stop_for_debugger(const DebugStop& stop) {
    state_ = RunState::kDebug;
    if (on_stop_) on_stop_(stop);
  }

  // Machine
  const std::string& cmdline() const override { return cmdline_; }
  RunReport run() override { return {}; }
  void press_power_button() override { note("press_power_button"); }
  void update_disk_sizes() override { note("update_disk_sizes"); }
  void end(Ending ending, int) override { note("end " + std::to_string(static_cast<int>(ending))); }
  const MachineConfig& config() const override { return config_; }
  RunState state() const override { return state_; }
  void pause(RunState why, std::function<void()> done) override {
    note("pause");
    if (on_pause_) {
      pauses_.push_back([this, why, done = std::move(done)] { stop(why, done); });
      on_pause_();
    } else {
      stop(why, done);
    }
  }
  // Does what the calls of pause() asked for.
  void finish_pause() {
    for (const auto& finish : std::exchange(pauses_, {})) finish();
  }
  void resume() override {
    // As a real one, only after all that waited for the pause have been told.
    if (telling_) {
      resume_wanted_ = true;
      return;
    }
    note("resume");
    if (!pauses_.empty()) return pauses_.push_back([this] { resume(); });
    if (std::exchange(state_, RunState::kRunning) != RunState::kRunning)
      publish({.kind = MachineEvent::Kind::kResume});
  }
  // As a real one, stops the vCPUs for the event, and forgets a pause that has not finished.
  void reset() override {
    note("reset");
    resetting_ = true;
    pauses_.clear();
    publish({.kind = MachineEvent::Kind::kReset, .reason = "host-qmp-system-reset"});
    resetting_ = false;
  }
  Result<void> inject_nmi() override { return answer("inject_nmi"); }
  Result<void> wake_up() override { return answer("wake_up"); }
  Subscription subscribe(Observer observer) override {
    const int number = next_observer_++;
    observers_[number] = std::move(observer);
    return Subscription([this, number] { observers_.erase(number); });
  }
  Inspector& inspector() override { return *this; }
  Hardware& hardware() override { return *this; }

  // Inspector
  uint32_t cpu_count() const override { return config_.cpus; }
  pid_t thread_id(uint32_t cpu) const override { return static_cast<pid_t>(1000 + cpu); }
  bool halted(uint32_t) const override { return false; }
  Result<CpuRegisters> registers(uint32_t cpu) const override {
    TRY(paused());
    return registers_.at(cpu);
  }
  Result<void> set_registers(uint32_t cpu, const CpuRegisters& registers) override {
    TRY(paused());
    registers_.at(cpu) = registers;
    return {};
  }
  Result<FpuRegisters> fpu(uint32_t cpu) const override {
    TRY(paused());
    return fpus_.at(cpu);
  }
  Result<void> set_fpu(uint32_t cpu, const FpuRegisters& registers) override {
    TRY(paused());
    fpus_.at(cpu) = registers;
    return {};
  }
  bool has_avx() const override { return true; }
  Result<uint64_t> read_msr(uint32_t, uint32_t index) const override {
    const auto found = msrs_.find(index);
    if (found == msrs_.end()) return fail("no MSR {:#x}", index);
    return found->second;
  }
  const GuestMemory& memory() const override { return *memory_; }
  std::vector<std::byte> vmcoreinfo() const override { return vmcoreinfo_; }
  std::optional<GuestAddress> translate(uint32_t, uint64_t linear) const override {
    if (pages_.empty())
      return linear < kMemoryBytes ? std::optional(GuestAddress{linear}) : std::nullopt;
    const auto found = pages_.find(linear / 4096 * 4096);
    if (found == pages_.end()) return std::nullopt;
    return GuestAddress{found->second + linear % 4096};
  }
  Result<void> attach_debugger(std::function<void(const DebugStop&)> on_stop) override {
    TRY(paused());
    if (on_stop && attach_refusal_) return std::unexpected(*attach_refusal_);
    note(on_stop ? "attach_debugger" : "detach_debugger");
    on_stop_ = std::move(on_stop);
    return {};
  }
  Result<void> set_hardware_breakpoints(std::span<const HardwareBreakpoint> wanted) override {
    TRY(paused());
    breakpoints_.assign(wanted.begin(), wanted.end());
    return {};
  }
  Result<void> resume_cpus(std::span<const CpuRun> cpus) override {
    note("resume_cpus");
    last_run_.assign(cpus.begin(), cpus.end());
    state_ = RunState::kRunning;
    if (on_resume_cpus_) on_resume_cpus_();
    return {};
  }
  Result<void> pass_breakpoint(uint32_t) override { return answer("pass_breakpoint"); }

  // Hardware
  std::vector<DiskInfo> disks() const override { return disks_; }
  std::vector<CardInfo> cards() const override { return cards_; }
  std::vector<PciInfo> pci_functions() const override { return pci_; }
  std::vector<ConsoleInfo> consoles() const override { return consoles_; }
  std::string address_map() const override { return "0x3f8-0x3ff ttyS0\n"; }
  Result<void> resize_disk(const std::string& id, uint64_t size_bytes) override {
    return answer("resize_disk " + id + " " + std::to_string(size_bytes));
  }
  Result<void> snapshot_disk(const std::string& id, const std::string& path) override {
    return answer("snapshot_disk " + id + " " + path);
  }
  Result<void> eject(const std::string& id, bool force) override {
    return answer("eject " + id + (force ? " force" : ""));
  }
  Result<void> change_medium(const std::string& id, const std::string& path, bool force) override {
    return answer("change_medium " + id + " " + path + (force ? " force" : ""));
  }
  Result<void> set_link(const std::string& id, bool up) override {
    return answer("set_link " + id + (up ? " up" : " down"));
  }
  Result<void> add_forward(const std::string& id, const std::string& forward) override {
    return answer("add_forward " + id + " " + forward);
  }
  Result<void> remove_forward(const std::string& id, const std::string& forward) override {
    return answer("remove_forward " + id + " " + forward);
  }
  std::string connections(const std::string& id) const override { return "  of " + id + "\n"; }
  Result<void> set_balloon(uint64_t guest_bytes) override {
    return answer("set_balloon " + std::to_string(guest_bytes));
  }
  std::optional<uint64_t> balloon_bytes() const override { return balloon_; }
  Result<void> send_break(const std::string& console_id) override {
    return answer("send_break " + console_id);
  }
  Result<void> type(const std::string& console_id, const std::string& text) override {
    return answer("type " + console_id + " " + text);
  }
  Result<void> send_keys(const std::vector<uint16_t>& codes,
                         std::chrono::milliseconds hold) override {
    if (!keyboard_) return fail("the machine has no keyboard");
    std::string call = "send_keys";
    for (const uint16_t code : codes) call += " " + std::to_string(code);
    return answer(call + " for " + std::to_string(hold.count()));
  }
  Result<void> save_screen(const std::string& path, PictureFormat format) override {
    return answer("save_screen " + path + (format == PictureFormat::kPng ? " png" : " ppm"));
  }
  Result<void> add_disk(const DiskConfig& config, const std::string& id) override {
    return answer("add_disk " + id + " " + config.path);
  }
  Result<void> add_card(const NetConfig&, const std::string& id) override {
    return answer("add_card " + id);
  }
  Result<void> remove_device(const std::string& id) override {
    return answer("remove_device " + id);
  }

 private:
  void stop(RunState why, const std::function<void()>& done) {
    if (state_ != RunState::kRunning) {
      if (done) done();
      return;
    }
    state_ = why;
    publish({.kind = MachineEvent::Kind::kStop});
    telling_ = true;
    if (done) done();
    telling_ = false;
    if (std::exchange(resume_wanted_, false)) resume();
  }
  void note(std::string call) { log_.push_back(std::move(call)); }
  Result<void> answer(std::string call) {
    note(std::move(call));
    if (refusal_) return std::unexpected(*refusal_);
    return {};
  }
  Result<void> paused() const {
    if (state_ == RunState::kRunning && !resetting_)
      return fail_errno(EBUSY, "the machine is running");
    return {};
  }

  std::string cmdline_ = "console=ttyS0";
  std::optional<GuestMemory> memory_;
  std::map<int, Observer> observers_;
  int next_observer_ = 0;
  bool telling_ = false;        // the function that waited for a pause is being called
  bool resume_wanted_ = false;  // by that function
  bool resetting_ = false;
};

}  // namespace wick::vmm
