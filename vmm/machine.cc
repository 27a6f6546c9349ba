#include "vmm/machine.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "base/bus.h"
#include "boot/acpi.h"
#include "boot/boot.h"
#include "boot/cmdline.h"
#include "console/open.h"
#include "devices/acpi_pm.h"
#include "devices/i8042.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "virtio/mmio.h"
#include "vmm/disk.h"
#include "vmm/kvm_counters.h"
#include "vmm/layout.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

namespace wick {

namespace {

// A vCPU that has not come back from the guest for this long may be halted for
// good; then it is asked.
constexpr std::chrono::seconds kHaltCheckPeriod{1};
constexpr size_t kReportedConsoleLines = 200;

struct SerialPort {
  std::unique_ptr<console::Port> host;
  std::unique_ptr<IrqLine> line;
  std::unique_ptr<devices::Serial> chip;
};

struct VirtioSlot {
  uint64_t address = 0;
  uint8_t irq = 0;
  std::unique_ptr<IrqLine> line;
  std::unique_ptr<virtio::MmioTransport> transport;
};

class KvmMachine final : public Machine {
 public:
  explicit KvmMachine(EventLoop& main_loop) : main_loop_(main_loop) {}
  ~KvmMachine() override { stop_vcpus(); }

  // The parts in the order in which they are built.
  Result<void> build(const MachineConfig& config);

  const std::string& cmdline() const override { return cmdline_; }
  RunReport run() override;
  void end(Ending ending, int signal) override;

 private:
  Result<void> build_memory(const MachineConfig& config);
  Result<void> build_serials(const MachineConfig& config);
  Result<void> build_chipset();
  Result<void> build_disks(const MachineConfig& config);
  Result<void> add_virtio(virtio::VirtioDevice& device, const std::string& name, bool acpi);
  Result<void> build_cpus(const MachineConfig& config);
  Result<void> load_kernel(const MachineConfig& config);
  boot::AcpiPlatform acpi_platform() const;

  void end_with(Ending ending, int signal, std::string detail);
  void vcpu_ended(const VcpuExit& exit);
  void check_for_halt();
  void stop_vcpus();
  std::string timeout_detail() const;
  RunStats stats() const;

  EventLoop& main_loop_;
  std::string cmdline_;

  std::optional<Kvm> kvm_;
  std::optional<Vm> vm_;
  std::optional<GuestMemory> memory_;
  Bus ports_;
  Bus mmio_;
  std::vector<SerialPort> serials_;
  std::unique_ptr<IrqLine> sci_;
  std::unique_ptr<devices::AcpiPm> acpi_pm_;
  std::unique_ptr<devices::I8042> i8042_;
  std::unique_ptr<IrqLine> rtc_line_;
  EventLoop::Timer rtc_timer_;
  std::unique_ptr<devices::Rtc> rtc_;
  std::vector<std::unique_ptr<Disk>> disks_;
  std::vector<VirtioSlot> virtio_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::vector<std::thread> vcpu_threads_;
  std::vector<uint64_t> exits_at_last_check_;

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
  auto machine = std::make_unique<KvmMachine>(main_loop);
  TRY(machine->build(config));
  return machine;
}

namespace {

Result<void> KvmMachine::build(const MachineConfig& config) {
  kvm_.emplace(TRY(Kvm::open()));
  vm_.emplace(TRY(Vm::create(*kvm_)));
  TRY(build_memory(config));
  TRY(build_serials(config));
  TRY(build_chipset());
  TRY(build_disks(config));
  TRY(build_cpus(config));
  return load_kernel(config);
}

Result<void> KvmMachine::build_memory(const MachineConfig& config) {
  std::vector<GuestMemory::Range> ranges;
  const uint64_t low = std::min(config.memory_bytes, layout::kLowRamEnd);
  ranges.push_back({{0}, low});
  if (config.memory_bytes > low)
    ranges.push_back({{layout::kHighRamStart}, config.memory_bytes - low});
  memory_.emplace(TRY(GuestMemory::create(ranges)));
  return vm_->map(*memory_);
}

Result<void> KvmMachine::build_serials(const MachineConfig& config) {
  const console::TerminalKeys keys{.quit = [this] { end(Ending::kQuit, 0); },
                                   .power_button = [this] { acpi_pm_->press_power_button(); }};
  for (size_t i = 0; i < config.serials.size(); ++i) {
    const SerialConfig& wanted = config.serials[i];
    SerialPort port;
    switch (wanted.kind) {
      case SerialConfig::Kind::kStdio:
        port.host = TRY(console::open_stdio(main_loop_, keys, wanted.log_path));
        break;
      case SerialConfig::Kind::kPty:
        port.host = TRY(console::open_pty(main_loop_, wanted.log_path));
        // Asked for, and the only way to find it: said at any log level.
        fmt::print(stderr, "wick: ttyS{} is at {}\n", i, port.host->name());
        break;
      case SerialConfig::Kind::kUnix:
        port.host = TRY(console::open_unix(main_loop_, wanted.path, wanted.log_path));
        break;
      case SerialConfig::Kind::kFile:
        port.host = TRY(console::open_file(main_loop_, wanted.path, wanted.log_path));
        break;
      case SerialConfig::Kind::kNull:
        port.host = TRY(console::open_null(main_loop_, wanted.log_path));
        break;
    }
    port.line = std::make_unique<IrqLine>(*vm_, layout::kSerialIrqs[i]);
    port.chip = std::make_unique<devices::Serial>(*port.host, *port.line);
    port.host->connect(*port.chip);
    TRY(ports_.attach({layout::kSerialPorts[i], devices::Serial::kPorts}, *port.chip,
                      fmt::format("ttyS{}", i)));
    serials_.push_back(std::move(port));
  }
  return {};
}

Result<void> KvmMachine::build_chipset() {
  const auto reset = [this] { end(Ending::kRebooted, 0); };
  i8042_ = std::make_unique<devices::I8042>(reset);
  TRY(ports_.attach({layout::kI8042Port, devices::I8042::kPorts}, *i8042_, "i8042"));

  sci_ = std::make_unique<IrqLine>(*vm_, layout::kSciIrq);
  acpi_pm_ = std::make_unique<devices::AcpiPm>(
      *sci_, devices::AcpiPm::Actions{.power_off = [this] { end(Ending::kPoweredOff, 0); },
                                      .reset = reset});
  TRY(ports_.attach({layout::kAcpiPmPort, devices::AcpiPm::kPorts}, *acpi_pm_, "acpi"));

  rtc_line_ = std::make_unique<IrqLine>(*vm_, layout::kRtcIrq);
  rtc_timer_ = TRY(main_loop_.timer([this] { rtc_->wake(); }));
  rtc_ = std::make_unique<devices::Rtc>(
      *rtc_line_, devices::Rtc::Wires{.now = devices::host_time,
                                      .arm = [this](auto delay) { rtc_timer_.arm(delay); }});
  return ports_.attach({layout::kRtcPort, devices::Rtc::kPorts}, *rtc_, "rtc");
}

Result<void> KvmMachine::build_disks(const MachineConfig& config) {
  for (const DiskConfig& wanted : config.disks) {
    const std::string id = fmt::format("vd{:c}", 'a' + disks_.size());
    disks_.push_back(TRY(Disk::create(wanted, id)));
    TRY(add_virtio(disks_.back()->device(), id, config.acpi));
  }
  return {};
}

Result<void> KvmMachine::add_virtio(virtio::VirtioDevice& device, const std::string& name,
                                    bool acpi) {
  const size_t index = virtio_.size();
  const size_t irq_index = index + (acpi ? 0 : layout::kFirstPicIrq);
  if (irq_index == layout::kVirtioMmioIrqs.size())
    return with_hint(fail("{}: there is an interrupt for only {} virtio devices", name, index),
                     "give fewer disks");
  VirtioSlot slot;
  slot.address = layout::kVirtioMmioStart + index * virtio::MmioTransport::kWindowBytes;
  slot.irq = layout::kVirtioMmioIrqs[irq_index];
  slot.line = std::make_unique<IrqLine>(*vm_, slot.irq);
  slot.transport = TRY(virtio::MmioTransport::create(device, *memory_, *slot.line, name));
  TRY(mmio_.attach({slot.address, virtio::MmioTransport::kWindowBytes}, *slot.transport, name));
  uint32_t queue = 0;
  for (const EventFd& kick : slot.transport->kicks())
    TRY(vm_->ioeventfd(kick, slot.address + virtio::MmioTransport::kQueueNotifyOffset, queue++));
  virtio_.push_back(std::move(slot));
  return {};
}

Result<void> KvmMachine::build_cpus(const MachineConfig& config) {
  if (config.cpus > kvm_->max_cpus())
    return with_hint(fail("{} vCPUs: KVM here allows {}", config.cpus, kvm_->max_cpus()),
                     "ask for fewer with --cpus");
  for (uint32_t i = 0; i < config.cpus; ++i) {
    vcpus_.push_back(TRY(Vcpu::create(*vm_, i, config.cpus, ports_, mmio_)));
    if (config.stats) vcpus_.back()->keep_stats();
  }
  return {};
}

Result<void> KvmMachine::load_kernel(const MachineConfig& config) {
  if (config.cmdline) {
    cmdline_ = *config.cmdline;
  } else {
    boot::CommandLineParts parts{.console = serials_.empty() ? "" : "ttyS0",
                                 .has_disk = !disks_.empty(),
                                 .disk_read_only = !disks_.empty() && config.disks[0].read_only,
                                 .has_initrd = !config.initrd_path.empty(),
                                 .mmio = {},
                                 .append = config.append};
    for (const VirtioSlot& slot : virtio_)
      if (!config.acpi)
        parts.mmio.push_back({slot.address, virtio::MmioTransport::kWindowBytes, slot.irq});
    cmdline_ = boot::make_command_line(parts);
  }
  boot::BootRequest request{.kernel_path = config.kernel_path,
                            .initrd_path = config.initrd_path,
                            .cmdline = cmdline_,
                            .rsdp = {0}};
  if (config.acpi) request.rsdp = TRY(boot::write_acpi_tables(*memory_, acpi_platform()));
  const boot::BootImage image = TRY(boot::load(*memory_, request));
  spdlog::info("{}: {}", config.kernel_path, image.kernel);
  return vcpus_.front()->set_state(image.cpu);
}

boot::AcpiPlatform KvmMachine::acpi_platform() const {
  boot::AcpiPlatform platform{
      .cpus = static_cast<uint32_t>(vcpus_.size()),
      .local_apic_address = layout::kLocalApic,
      .io_apic_address = layout::kIoApic,
      .sci_irq = layout::kSciIrq,
      .pm1_event_port = layout::kAcpiPmPort + devices::AcpiPm::kEventOffset,
      .pm1_control_port = layout::kAcpiPmPort + devices::AcpiPm::kControlOffset,
      .sleep_type_s5 = devices::AcpiPm::kSleepTypeS5,
      .reset_port = layout::kAcpiPmPort + devices::AcpiPm::kResetOffset,
      .reset_value = devices::AcpiPm::kResetValue,
      .rtc = {layout::kRtcPort, layout::kRtcIrq, devices::Rtc::kCentury},
      .serials = {},
      .virtio_mmio = {}};
  for (size_t i = 0; i < serials_.size(); ++i)
    platform.serials.push_back({layout::kSerialPorts[i], layout::kSerialIrqs[i]});
  for (const VirtioSlot& slot : virtio_)
    platform.virtio_mmio.push_back(
        {static_cast<uint32_t>(slot.address), virtio::MmioTransport::kWindowBytes, slot.irq});
  return platform;
}

RunReport KvmMachine::run() {
  const auto halt_timer = [this](auto& timer) {
    check_for_halt();
    timer.arm(kHaltCheckPeriod);
  };
  EventLoop::Timer timer;
  if (auto made = main_loop_.timer([&] { halt_timer(timer); })) {
    timer = *std::move(made);
    timer.arm(kHaltCheckPeriod);
  } else {
    end_with(Ending::kHostFailed, 0, made.error().message());
  }

  // The threads inherit the mask of the main thread: its signals stay there.
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    auto thread = start_thread(fmt::format("vcpu{}", i), [this, i] {
      const VcpuExit exit = vcpus_[i]->run();
      if (exit.kind != VcpuExit::Kind::kStopped) vcpu_ended(exit);
    });
    if (thread)
      vcpu_threads_.push_back(*std::move(thread));
    else
      end_with(Ending::kHostFailed, 0, thread.error().message());
  }
  main_loop_.run();
  stop_vcpus();

  RunReport report;
  {
    const std::lock_guard lock(mutex_);
    report.ending = ending_;
    report.signal = signal_;
    report.detail = detail_;
  }
  if (report.ending == Ending::kTimeout) report.detail = timeout_detail();
  for (const auto& vcpu : vcpus_)
    report.cpus.push_back({vcpu->describe(*memory_), vcpu->describe_last_exits()});
  for (const auto& disk : disks_) {
    if (auto finished = disk->finish(); !finished) {
      report.ending = Ending::kHostFailed;
      report.detail = finished.error().message();
    }
  }
  for (const SerialPort& port : serials_) port.host->flush();
  if (!serials_.empty()) {
    const console::Transcript& transcript = serials_.front().host->transcript();
    report.console_lines = transcript.last_lines(kReportedConsoleLines);
    // The text alone ends nothing: a user may print it. A panic reboots (or
    // halts, or falls into a triple fault), it never powers off.
    const bool stopped = report.ending == Ending::kRebooted || report.ending == Ending::kHalted ||
                         report.ending == Ending::kTripleFault;
    if (stopped && transcript.panicked()) report.ending = Ending::kPanicked;
  }
  report.stats = stats();
  return report;
}

RunStats KvmMachine::stats() const {
  RunStats stats;
  for (const auto& vcpu : vcpus_) {
    if (!vcpu->stats()) return {};
    vcpu->stats()->add_to(stats);
    stats.kvm_vcpus.push_back(read_kvm_counters(vcpu->fd()));
  }
  stats.kvm_vm = read_kvm_counters(vm_->fd());
  return stats;
}

void KvmMachine::end(Ending ending, int signal) { end_with(ending, signal, {}); }

void KvmMachine::end_with(Ending ending, int signal, std::string detail) {
  const std::lock_guard lock(mutex_);
  if (ended_) return;
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
// while is asked.
void KvmMachine::check_for_halt() {
  exits_at_last_check_.resize(vcpus_.size());
  bool all_halted = true;
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    const uint64_t exits = vcpus_[i]->exits();
    const bool idle = exits == exits_at_last_check_[i];
    // An older answer holds only as long as nothing has happened since.
    all_halted = all_halted && idle && vcpus_[i]->halted_for_good();
    if (idle) vcpus_[i]->request_halt_check();
    exits_at_last_check_[i] = idle ? exits + 1 : exits;  // the check itself costs one
  }
  if (all_halted) end(Ending::kHalted, 0);
}

std::string KvmMachine::timeout_detail() const {
  const bool wrote = std::ranges::any_of(
      serials_, [](const SerialPort& port) { return port.host->transcript().end() > 0; });
  const bool halted = std::ranges::all_of(vcpus_, [](const auto& vcpu) { return vcpu->halted(); });
  return fmt::format("the guest was {}{}", halted ? "halted, waiting for an interrupt" : "running",
                     wrote ? "" : ", and had never written anything");
}

void KvmMachine::stop_vcpus() {
  for (const auto& vcpu : vcpus_) vcpu->request_stop();
  for (std::thread& thread : vcpu_threads_) thread.join();
  vcpu_threads_.clear();
}

}  // namespace

}  // namespace wick
