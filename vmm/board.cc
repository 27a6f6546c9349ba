#include "vmm/board.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "boot/boot.h"
#include "boot/cmdline.h"
#include "boot/input_file.h"
#include "boot/smbios.h"
#include "vmm/layout.h"

namespace wick::vmm {

namespace {

// Creates the RAM. With a screen, the address window of the VGA card is a hole in it.
Result<std::shared_ptr<const GuestMemory>> make_memory(uint64_t size_bytes, bool screen) {
  std::vector<GuestMemory::Range> ranges;
  const uint64_t low = std::min(size_bytes, layout::kLowRamEnd);
  constexpr uint64_t kWindowEnd = devices::Vga::kWindow + devices::Vga::kWindowBytes;
  if (screen && low > kWindowEnd) {
    ranges.push_back({{0}, devices::Vga::kWindow});
    ranges.push_back({{kWindowEnd}, low - kWindowEnd});
  } else {
    ranges.push_back({{0}, low});
  }
  if (size_bytes > low) ranges.push_back({{layout::kHighRamStart}, size_bytes - low});
  return std::make_shared<const GuestMemory>(TRY(GuestMemory::create(ranges)));
}

}  // namespace

Result<std::unique_ptr<Board>> Board::create(const MachineConfig& config, StartFiles files,
                                             const Kvm& kvm, const Peripherals& peripherals,
                                             EventLoop& main_loop, const GuestClock& clock,
                                             const Events& events) {
  const WakeStart* const wake = std::get_if<WakeStart>(&files);
  auto memory = wake != nullptr
                    ? wake->asleep.memory
                    : TRY(make_memory(config.memory_bytes, peripherals.screen() != nullptr));
  std::unique_ptr<Board> board(
      new Board(config, TRY(Vm::create(kvm)), std::move(memory), main_loop, clock));
  const auto* const firmware = std::get_if<FirmwareStart>(&files);
  board->uefi_ = wake != nullptr ? wake->asleep.uefi : firmware != nullptr && firmware->image.uefi;
  TRY(board->vm_.map(board->memory_));
  TRY(board->build_chipset(main_loop, events, wake));
  TRY(board->build_fw_cfg(wake));
  TRY(board->build_serials(peripherals));
  TRY(board->build_pci(events));
  TRY(board->build_ide(peripherals));
  if (peripherals.screen() != nullptr) TRY(board->build_screen(*peripherals.screen()));
  for (const auto& card : peripherals.emulated_cards()) TRY(board->add_card(card));
  for (const Peripherals::Slot& slot : peripherals.slots()) TRY(board->add_virtio(slot));
  // Without ACPI there are too few interrupts for a balloon.
  board->balloon_.on_change(events.balloon_changed);
  if (config.acpi) TRY(board->add_virtio({&board->balloon_, "balloon", layout::kBalloonSlot}));
  TRY(board->build_cpus());
  if (wake != nullptr)
    TRY(board->wake_up(*wake));
  else if (firmware != nullptr)
    TRY(board->load_firmware(*firmware));
  else
    TRY(board->load_kernel(std::get<boot::BootFiles>(std::move(files))));
  TRY(board->build_debug_exit(events));
  return board;
}

Board::~Board() {
  if (screen_ != nullptr) screen_->disconnect();
  for (const SerialPort& port : serials_) port.host->disconnect();
  for (const auto& slot : pci_slots_)
    if (slot->transport) slot->transport->power_off();
  for (const MmioSlot& slot : mmio_slots_) slot.transport->power_off();
}

Result<void> Board::build_chipset(EventLoop& main_loop, const Events& events,
                                  const WakeStart* wake) {
  i8042_ = std::make_unique<devices::I8042>(events.reset);
  TRY(ports_.attach({layout::kI8042DataPort, 1}, i8042_->data_port(), "i8042"));
  TRY(ports_.attach({layout::kI8042CommandPort, 1}, i8042_->command_port(), "i8042"));
  if (!config_.firmware_path.empty()) {
    port92_ = std::make_unique<devices::Port92>(events.reset);
    TRY(ports_.attach({layout::kPort92, devices::Port92::kPorts}, *port92_, "port 92"));
  }

  pit_line_ = std::make_unique<IrqLine>(vm_, layout::kPitIrq);
  pit_timer_ = TRY(main_loop.timer([this] { pit_->wake(); }));
  const auto now = [this] { return clock_.now(); };
  pit_ = std::make_unique<devices::Pit>(
      *pit_line_, devices::Pit::Wires{.now = now,
                                      .arm = [this](auto delay) { pit_timer_.arm(delay); },
                                      .start =
                                          [this](const devices::Pit::State& state) {
                                            if (const auto made = vm_.create_pit(state); !made)
                                              spdlog::error("{}", made.error().message());
                                          }});
  TRY(ports_.attach({layout::kPitPort, devices::Pit::kPorts}, pit_->counters(), "pit"));
  TRY(ports_.attach({layout::kPort61, 1}, pit_->port_61(), "port 61"));

  sci_ = std::make_unique<IrqLine>(vm_, layout::kSciIrq);
  acpi_timer_ = TRY(main_loop.timer([this] { acpi_pm_->wake(); }));
  acpi_pm_ = std::make_unique<devices::AcpiPm>(
      *sci_,
      devices::AcpiPm::Actions{
          .power_off = events.power_off,
          .reset = events.reset,
          .suspend_to_ram = events.suspend_to_ram,
          .suspend_to_disk = events.suspend_to_disk ? events.suspend_to_disk : events.power_off},
      devices::AcpiPm::Clock{.now = now, .arm = [this](auto delay) { acpi_timer_.arm(delay); }},
      wake == nullptr ? devices::AcpiPm::State() : devices::AcpiPm::woken_by(wake->source));
  TRY(ports_.attach({layout::kAcpiPmPort, devices::AcpiPm::kPorts}, *acpi_pm_, "acpi"));

  TRY(build_rtc(main_loop, events, wake));

  pvpanic_ = std::make_unique<devices::Pvpanic>(
      devices::Pvpanic::Actions{.panicked = events.panicked, .crash_loaded = [] {}});
  return ports_.attach({layout::kPvpanicPort, devices::Pvpanic::kPorts}, *pvpanic_, "pvpanic");
}

Result<void> Board::build_rtc(EventLoop& main_loop, const Events& events, const WakeStart* wake) {
  rtc_line_ = std::make_unique<IrqLine>(vm_, layout::kRtcIrq);
  rtc_timer_ = TRY(main_loop.timer([this] { rtc_->wake(); }));
  const devices::Rtc::Wires wires{.now = [this] { return clock_.real_time(); },
                                  .arm = [this](auto delay) { rtc_timer_.arm(delay); },
                                  .alarm =
                                      [this, told = events.rtc_alarm] {
                                        acpi_pm_->rtc_alarm();
                                        if (told) told();
                                      }};
  rtc_ = wake == nullptr ? std::make_unique<devices::Rtc>(*rtc_line_, wires)
                         : std::make_unique<devices::Rtc>(*rtc_line_, wires, wake->asleep.rtc);
  TRY(ports_.attach({layout::kRtcPort, devices::Rtc::kPorts}, *rtc_, "rtc"));
  return vm_.coalesce(layout::kRtcPort, 1);  // the index register
}

// Must be called when all devices with fixed ports are attached. The user chooses this device's
// port, so an overlap must be reported as an error of --debug-exit.
Result<void> Board::build_debug_exit(const Events& events) {
  if (!config_.debug_exit_port) return {};
  debug_exit_ = std::make_unique<devices::DebugExit>(events.debug_exit);
  auto attached = ports_.attach({*config_.debug_exit_port, devices::DebugExit::kPorts},
                                *debug_exit_, "debug exit");
  if (attached) return {};
  return with_hint(
      fail("--debug-exit {:#x}: {}", *config_.debug_exit_port, attached.error().message()),
      "choose other ports; kvm-unit-tests write to 0xf4");
}

Result<void> Board::build_fw_cfg(const WakeStart* wake) {
  fw_cfg_ = std::make_unique<devices::FwCfg>(memory_);
  std::array<std::byte, 2> cpus{};
  store_le(std::span(cpus), static_cast<uint16_t>(config_.cpus));
  TRY(fw_cfg_->add_item(FW_CFG_NB_CPUS, {cpus.begin(), cpus.end()}));
  TRY(fw_cfg_->add_item(FW_CFG_MAX_CPUS, {cpus.begin(), cpus.end()}));
  std::array<std::byte, 8> memory{};
  store_le(std::span(memory), config_.memory_bytes);
  TRY(fw_cfg_->add_item(FW_CFG_RAM_SIZE, {memory.begin(), memory.end()}));
  TRY(fw_cfg_->add_vmcoreinfo(wake != nullptr ? wake->asleep.vmcoreinfo
                                              : std::vector<std::byte>()));
  for (const FwCfgFile& file : config_.fw_cfg) TRY(add_user_file(file));
  return ports_.attach({devices::FwCfg::kPort, devices::FwCfg::kPorts}, *fw_cfg_, "fw_cfg");
}

Result<void> Board::add_user_file(const FwCfgFile& file) {
  constexpr uint64_t kMaxBytes = 64 << 20;
  const auto hinted = [](Error error) {
    if (error.hint.empty()) error.hint = "--fw-cfg takes NAME,file=PATH or NAME,string=TEXT";
    return std::unexpected(std::move(error));
  };
  std::vector<std::byte> content(file.text.size());
  std::ranges::copy(as_bytes(file.text.data(), file.text.size()), content.begin());
  if (!file.path.empty()) {
    const auto input = boot::InputFile::open(file.path);
    if (!input) return hinted(input.error());
    if (input->size_bytes() > kMaxBytes)
      return fail("{}: {} bytes are too many for --fw-cfg, which takes {} MiB", file.path,
                  input->size_bytes(), kMaxBytes >> 20);
    content.resize(input->size_bytes());
    TRY(input->read(0, content));
  }
  if (auto added = fw_cfg_->add(file.name, std::move(content)); !added)
    return hinted(std::move(added).error());
  return {};
}

Result<void> Board::build_serials(const Peripherals& peripherals) {
  for (size_t i = 0; i < peripherals.serial_count(); ++i) {
    SerialPort port;
    port.host = peripherals.consoles()[i].get();
    port.line = std::make_unique<IrqLine>(vm_, layout::kSerialIrqs[i]);
    port.chip = std::make_unique<devices::Serial>(*port.host, *port.line);
    port.host->connect(*port.chip);
    TRY(ports_.attach({layout::kSerialPorts[i], devices::Serial::kPorts}, *port.chip,
                      fmt::format("ttyS{}", i)));
    serials_.push_back(std::move(port));
  }
  return {};
}

Result<void> Board::build_pci(const Events& events) {
  if (!config_.on_pci()) return {};
  for (const uint8_t irq : layout::kPciIrqs)
    pci_pins_.push_back(std::make_unique<SharedPin>(vm_, irq));
  const auto [window, ecam] = pci_places();
  const Bus::Range io_window{layout::kPciIoWindow, layout::kPciIoWindowPorts};
  using Identity = devices::PciHost::Identity;
  pci_ = std::make_unique<devices::PciHost>(
      window, events.reset, io_window,
      config_.firmware_path.empty() ? Identity::kGeneric : Identity::kI440fx);
  TRY(ports_.attach({layout::kPciPort, devices::PciHost::kPorts}, pci_->ports(), "pci"));
  // Coalesces writes of CONFIG_ADDRESS. KVM also queues writes of single bytes to these four ports,
  // among them a reset through 0xcf9, which then takes up to a second if the guest has no other
  // exit. That is acceptable, because Linux tries other ways to reset first.
  TRY(vm_.coalesce(layout::kPciPort, 4));
  TRY(ports_.attach(io_window, pci_->io_window(), "pci"));
  hotplug_ = std::make_unique<devices::AcpiHotplug>(
      config_.hotplug_slots(),
      devices::AcpiHotplug::Actions{.raise = [this] { acpi_pm_->raise_gpe(layout::kHotplugEvent); },
                                    .eject = events.ejected});
  TRY(ports_.attach({layout::kAcpiHotplugPort, devices::AcpiHotplug::kPorts}, *hotplug_,
                    "hot-plug"));
  if (uefi_) {
    piix_ = std::make_unique<devices::Piix>(layout::kAcpiPmPort);
    TRY(piix_->attach_to(*pci_));
  }
  TRY(mmio_.attach({ecam, devices::PciHost::kEcamBytes}, pci_->ecam(), "pci config"));
  return mmio_.attach(window, pci_->window(), "pci");
}

Result<void> Board::build_ide(const Peripherals& peripherals) {
  const auto& given = peripherals.ide_drives();
  if (given.empty()) return {};
  std::array<devices::IdeDrive*, devices::Ide::kDrives> drives{};
  std::ranges::copy(given, drives.begin());
  for (size_t i = 0; i < given.size(); ++i)
    if (given[i]->kind() == devices::IdeDrive::Kind::kDisk) ide_disks_[i] = given[i];
  std::array<InterruptLine*, devices::Ide::kChannels> lines{};
  for (size_t i = 0; i < lines.size(); ++i) {
    ide_lines_[i] = std::make_unique<IrqLine>(vm_, layout::kIdeIrqs[i]);
    lines[i] = ide_lines_[i].get();
  }
  ide_ = std::make_unique<devices::Ide>(memory_, lines, drives);
  for (size_t i = 0; i < devices::Ide::kChannels; ++i) {
    devices::IdeChannel* channel = ide_->channel(i);
    if (channel == nullptr) continue;
    const std::string name = fmt::format("ide{}", i);
    TRY(ports_.attach({layout::kIdeCommandPorts[i], devices::IdeChannel::kCommandPorts},
                      channel->command_block(), name));
    TRY(ports_.attach({layout::kIdeControlPorts[i], devices::IdeChannel::kControlPorts},
                      channel->control_block(), name));
  }
  // The controller has no PCI interrupt.
  return attach_pci(layout::kIdeSlot, ide_->function(), 0, "ide");
}

Result<void> Board::add_virtio_mmio(const Peripherals::Slot& wanted) {
  const size_t index = mmio_slots_.size();
  const size_t irq_index = index + (config_.acpi ? 0 : layout::kFirstPicIrq);
  if (irq_index == layout::kVirtioMmioIrqs.size())
    return with_hint(
        fail("{}: there are interrupts for only {} virtio devices", wanted.name, index),
        "give fewer disks, or use --transport pci");
  MmioSlot slot;
  slot.address = layout::kVirtioMmioStart + index * virtio::MmioTransport::kWindowBytes;
  slot.irq = layout::kVirtioMmioIrqs[irq_index];
  slot.line = std::make_unique<IrqLine>(vm_, slot.irq);
  slot.transport =
      TRY(virtio::MmioTransport::create(*wanted.device, memory_, *slot.line, wanted.name));
  TRY(mmio_.attach({slot.address, virtio::MmioTransport::kWindowBytes}, *slot.transport,
                   wanted.name));
  // A driver kicks a queue by a 32-bit write of its index to QUEUE_NOTIFY.
  uint32_t queue = 0;
  for (const EventFd& kick : slot.transport->kicks())
    TRY(vm_.add(
        {.event = &kick, .address = slot.address + VIRTIO_MMIO_QUEUE_NOTIFY, .value = queue++}));
  mmio_slots_.push_back(std::move(slot));
  return {};
}

Result<void> Board::build_cpus() {
  const uint32_t most = std::min(vm_.kvm().max_cpus(), boot::kMaxAcpiCpus);
  if (config_.cpus > most)
    return with_hint(fail("{} vCPUs: KVM and ACPI allow at most {}", config_.cpus, most),
                     "give fewer with --cpus");
  for (uint32_t i = 0; i < config_.cpus; ++i) {
    vcpus_.push_back(TRY(Vcpu::create(vm_, i, config_.cpus, ports_, mmio_, coalesced_)));
    if (config_.stats) vcpus_.back()->keep_stats();
  }
  return {};
}

std::string Board::linux_cmdline() const {
  boot::CommandLineParts parts{
      .console = config_.main_console(),
      .screen = config_.vnc.has_value(),
      .root_device = config_.root_device(),
      .root_read_only = config_.root_disk() != nullptr && config_.root_disk()->read_only,
      .has_initrd = !config_.initrd_path.empty(),
      .kaslr = config_.kaslr,
      .mmio = {},
      .append = config_.append};
  for (const MmioSlot& slot : mmio_slots_)
    if (!config_.acpi)
      parts.mmio.push_back({slot.address, virtio::MmioTransport::kWindowBytes, slot.irq});
  return boot::make_command_line(parts);
}

// Only Linux gets the generated command line, because a Multiboot kernel would not know its
// parameters, or would understand them differently.
Result<void> Board::load_kernel(boot::BootFiles files) {
  starts_multiboot_ = files.multiboot.has_value();
  cmdline_ = config_.cmdline     ? *config_.cmdline
             : starts_multiboot_ ? config_.append
                                 : linux_cmdline();
  files.cmdline = cmdline_;
  files.five_level_paging = vcpus_.front()->has_five_level_paging();
  TRY(boot::write_smbios_tables(
      memory_, {.name = config_.name, .uuid = config_.uuid, .cpus = config_.cpus}));
  if (config_.acpi) files.rsdp = TRY(boot::write_acpi_tables(memory_, acpi_platform()));
  const boot::BootImage image = TRY(boot::load(memory_, files));
  spdlog::info("{}: {}", config_.kernel_path, image.kernel);
  if (!image.warning.empty()) spdlog::warn("{}", image.warning);
  return vcpus_.front()->set_state(image.cpu);
}

boot::AcpiPlatform Board::acpi_platform() const {
  boot::AcpiPlatform platform{
      .cpus = static_cast<uint32_t>(vcpus_.size()),
      .local_apic_address = layout::kLocalApic,
      .io_apic_address = layout::kIoApic,
      .sci_irq = layout::kSciIrq,
      .pm1_event_port = layout::kAcpiPmPort + devices::AcpiPm::kEventOffset,
      .pm1_control_port = layout::kAcpiPmPort + devices::AcpiPm::kControlOffset,
      .pm_timer_port = layout::kAcpiPmPort + devices::AcpiPm::kTimerOffset,
      // S3 is not offered with OVMF, whose wake-up has not been tested.
      .sleep_type_s3 = uefi_ ? std::nullopt : std::optional(devices::AcpiPm::kSleepTypeS3),
      .sleep_type_s4 = devices::AcpiPm::kSleepTypeS4,
      .sleep_type_s5 = devices::AcpiPm::kSleepTypeS5,
      .reset_port = layout::kAcpiPmPort + devices::AcpiPm::kResetOffset,
      .reset_value = devices::AcpiPm::kResetValue,
      .rtc = {layout::kRtcPort, layout::kRtcIrq, devices::Rtc::kCentury},
      .has_vga = screen_ != nullptr,
      .has_keyboard = screen_ != nullptr,
      .pvpanic_port = layout::kPvpanicPort,
      .fw_cfg_port = devices::FwCfg::kPort};
  for (size_t i = 0; i < serials_.size(); ++i)
    platform.serials.push_back({layout::kSerialPorts[i], layout::kSerialIrqs[i]});
  for (const MmioSlot& slot : mmio_slots_)
    platform.virtio_mmio.push_back(
        {static_cast<uint32_t>(slot.address), virtio::MmioTransport::kWindowBytes, slot.irq});
  if (pci_) {
    const auto [window, ecam] = pci_places();
    platform.pci = boot::AcpiPlatform::Pci{.config_port = layout::kPciPort,
                                           .ecam = static_cast<uint32_t>(ecam),
                                           .window = static_cast<uint32_t>(window.start),
                                           .window_bytes = static_cast<uint32_t>(window.size),
                                           .hotplug_slots = hotplug_->pluggable(),
                                           .hotplug_port = layout::kAcpiHotplugPort,
                                           .hotplug_event = layout::kHotplugEvent};
    if (hotplug_->pluggable() != 0)
      platform.gpe0_port = layout::kAcpiPmPort + devices::AcpiPm::kGpeOffset;
    for (size_t slot = 1; slot < devices::PciHost::kSlots; ++slot)
      platform.pci->slot_irqs.push_back(layout::kPciIrqs[slot % layout::kPciIrqs.size()]);
  }
  return platform;
}

}  // namespace wick::vmm
