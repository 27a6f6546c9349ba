// The hardware of one power-on: the KVM virtual machine, memory, chips, buses and vCPUs, with
// the kernel or the firmware loaded. A reset destroys the board and creates a new one, so that no
// state of the old guest remains.
//
// board.cc assigns every device its address, its interrupt and its loop.
//
// Thread rule: created and destroyed on the main loop's thread, while neither the loop nor a
// vCPU runs.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/bus.h"
#include "base/event_loop.h"
#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/acpi.h"
#include "boot/boot.h"
#include "boot/firmware.h"
#include "boot/uefi_variables.h"
#include "devices/acpi_hotplug.h"
#include "devices/acpi_pm.h"
#include "devices/debug_exit.h"
#include "devices/e1000/e1000.h"
#include "devices/firmware_log.h"
#include "devices/flash.h"
#include "devices/fw_cfg.h"
#include "devices/i8042.h"
#include "devices/ide/ide.h"
#include "devices/pci/host.h"
#include "devices/pci/piix.h"
#include "devices/pit.h"
#include "devices/port92.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "devices/pvpanic.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "devices/vga/vga.h"
#include "virtio/balloon.h"
#include "virtio/mmio.h"
#include "virtio/pci.h"
#include "vmm/config.h"
#include "vmm/guest_clock.h"
#include "vmm/hardware.h"
#include "vmm/interrupts.h"
#include "vmm/kvm.h"
#include "vmm/peripherals.h"
#include "vmm/vcpu.h"
#include "vmm/video_memory.h"
#include "vmm/vm.h"

namespace wick::vmm {

struct FirmwareStart {
  boot::Firmware image;
  bool again = false;                        // true: the machine starts again after a reset
  boot::UefiVariables* variables = nullptr;  // nullptr: no flash memory; must outlive the board
};
// What remains of a board whose guest sleeps in S3 (ACPI 6.5, 7.4.2.4).
struct SleepingBoard {
  std::shared_ptr<const GuestMemory> memory;
  std::shared_ptr<const GuestMemory> rom;  // the firmware's image; nullptr: there is no firmware
  bool uefi = false;
  devices::Rtc::State rtc;
  devices::AcpiHotplug::State hotplug;
  std::vector<std::byte> vmcoreinfo;
  std::string cmdline;
};
// The start of a guest that wakes up from S3: its firmware runs again, or without firmware the
// first vCPU starts at the guest's waking vector.
struct WakeStart {
  SleepingBoard asleep;
  devices::AcpiPm::WakeSource source = devices::AcpiPm::WakeSource::kOther;
};
// What the first vCPU starts: a kernel, firmware, or a guest that wakes up.
using StartFiles = std::variant<boot::BootFiles, FirmwareStart, WakeStart>;

class Board {
 public:
  // Actions of the guest that concern the whole machine; called on any thread.
  struct Events {
    std::function<void()> power_off;
    std::function<void()> reset;
    std::function<void()> panicked;
    std::function<void()> suspend_to_ram = {};
    std::function<void()> suspend_to_disk = {};  // S4; if empty, power_off is called
    std::function<void()> rtc_alarm = {};        // called with the lock of devices::Rtc held
    std::function<void()> balloon_changed = {};
    std::function<void(uint32_t slots)> ejected = {};  // `slots`: the ejected PCI slots, a bit each
    std::function<void(uint32_t value)> debug_exit = {};
  };

  // All references except `events` must outlive the board.
  static Result<std::unique_ptr<Board>> create(const MachineConfig& config, StartFiles files,
                                               const Kvm& kvm, const Peripherals& peripherals,
                                               EventLoop& main_loop, const GuestClock& clock,
                                               const Events& events);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  const std::string& cmdline() const { return cmdline_; }
  // Returns true if wick itself loaded a Multiboot kernel. If firmware loads the kernel, the result
  // is false, because wick does not know what the kernel is.
  bool starts_multiboot() const { return starts_multiboot_; }
  const Vm& vm() const { return vm_; }
  const GuestMemory& memory() const { return memory_; }
  // Returns what the next board needs to wake the guest. May be called only while no vCPU runs.
  SleepingBoard sleeping() const;
  // Returns whether a guest that has asked for S3 can be started again.
  bool can_wake() const { return rom_ != nullptr || waking_vector().has_value(); }
  std::optional<devices::AcpiPm::WakeSource> pending_wake() const {
    return devices::AcpiPm::pending_wake(acpi_pm_->state());
  }
  const Bus& ports() const { return ports_; }
  const Bus& mmio() const { return mmio_; }
  const std::vector<std::unique_ptr<Vcpu>>& vcpus() const { return vcpus_; }
  void press_power_button() { acpi_pm_->press_power_button(); }
  virtio::Balloon& balloon() { return balloon_; }
  // What the guest has written to the fw_cfg file etc/vmcoreinfo.
  std::vector<std::byte> vmcoreinfo() const {
    return fw_cfg_->contents(FW_CFG_VMCOREINFO_FILENAME);
  }
  std::vector<PciInfo> pci_functions();  // empty without PCI
  // The ports and addresses that the machine decodes, one line per range.
  std::string address_map() const;

  // Hot-plug, only with PCI. make() creates a device's PCI function, and plug() puts it into its
  // slot while the vCPUs are stopped. create() does both for all devices of the Peripherals at that
  // time.
  bool can_plug(uint8_t slot) const { return hotplug_ && hotplug_->pluggable(slot); }
  bool has_pci() const { return pci_ != nullptr; }
  Result<void> make(const Peripherals::Slot& wanted) { return make_virtio_pci(wanted); }
  Result<void> make(const Peripherals::EmulatedCard& wanted) { return make_card(wanted); }
  void plug(uint8_t slot);
  // Asks the guest to release the device. Events::ejected is called when the guest has done so.
  void request_removal(uint8_t slot) { hotplug_->request_removal(slot); }
  // Destroys what make() made for the slot. May be called only while the vCPUs are stopped.
  void unplug(uint8_t slot);
  // Returns the slots (a bit each) whose device the guest has ejected and that are not unplugged
  // yet. With `and_requested`, also the slots whose removal was requested.
  uint32_t leaving_slots(bool and_requested) const;

  devices::Ide* ide() { return ide_.get(); }  // nullptr without IDE drives

 private:
  struct SerialPort {
    console::Port* host = nullptr;
    std::unique_ptr<IrqLine> line;
    std::unique_ptr<devices::Serial> chip;
  };
  struct MmioSlot {
    uint64_t address = 0;
    uint8_t irq = 0;
    std::unique_ptr<IrqLine> line;
    std::unique_ptr<virtio::MmioTransport> transport;
  };
  struct EmulatedCard {
    uint8_t slot = 0;
    std::string name;
    std::unique_ptr<InterruptLine> line;
    std::unique_ptr<devices::E1000> chip;
  };
  struct PciSlot {
    uint8_t slot = 0;
    std::string name;
    std::unique_ptr<InterruptLine> line;
    std::unique_ptr<virtio::PciTransport> transport;
    std::vector<Vm::Ioeventfd> kicks;  // those that are registered with KVM now
  };

  Board(const MachineConfig& config, Vm vm, std::shared_ptr<const GuestMemory> memory,
        EventLoop& main_loop, const GuestClock& clock)
      : config_(config),
        clock_(clock),
        vm_(std::move(vm)),
        memory_owner_(std::move(memory)),
        memory_(*memory_owner_),
        balloon_(memory_, main_loop) {}

  Result<void> build_chipset(EventLoop& main_loop, const Events& events, const WakeStart* wake);
  Result<void> build_rtc(EventLoop& main_loop, const Events& events, const WakeStart* wake);
  Result<void> build_debug_exit(const Events& events);
  // board_screen.cc
  Result<void> build_screen(Screen& screen);
  Result<void> build_fw_cfg(const WakeStart* wake);
  Result<void> add_user_file(const FwCfgFile& file);
  Result<void> build_serials(const Peripherals& peripherals);
  Result<void> build_pci(const Events& events);
  struct PciPlaces {
    Bus::Range window = {};  // the addresses for memory BARs
    uint64_t ecam = 0;       // the start of the configuration spaces
  };
  PciPlaces pci_places() const;
  Result<void> attach_pci(uint8_t slot, devices::PciFunction& function, uint8_t irq,
                          const std::string& id);
  Result<void> build_ide(const Peripherals& peripherals);
  Result<void> add_card(const Peripherals::EmulatedCard& wanted);
  Result<void> add_virtio(const Peripherals::Slot& wanted);
  Result<void> make_card(const Peripherals::EmulatedCard& wanted);
  Result<void> make_virtio_pci(const Peripherals::Slot& wanted);
  // The device that make() has created for a slot.
  struct Made {
    devices::PciFunction* function = nullptr;  // nullptr: the slot has no device
    std::string name;
  };
  Made made_for(uint8_t slot) const;
  Result<void> attach_made(uint8_t slot);
  Result<void> add_virtio_mmio(const Peripherals::Slot& wanted);
  static void move_kicks(const Vm& vm, PciSlot& slot, uint64_t to);
  Result<void> build_cpus();
  Result<void> load_kernel(boot::BootFiles files);
  std::string linux_cmdline() const;
  // board_firmware.cc
  Result<void> load_firmware(const FirmwareStart& firmware);
  Result<void> map_firmware(std::shared_ptr<const GuestMemory> rom);
  Result<void> map_variables(boot::UefiVariables& variables);
  Result<void> add_firmware_files(bool again);
  Result<void> wake_up(const WakeStart& wake);
  // Returns the real-mode address at which the guest wants to wake up from S3; nullopt: the guest
  // has not set one. Used only without firmware.
  std::optional<GuestAddress> waking_vector() const;
  std::vector<std::string> boot_order(bool again) const;
  boot::AcpiPlatform acpi_platform() const;

  const MachineConfig& config_;
  const GuestClock& clock_;
  Vm vm_;
  const std::shared_ptr<const GuestMemory> memory_owner_;
  const GuestMemory& memory_;
  std::string cmdline_;
  bool starts_multiboot_ = false;
  Bus ports_;
  Bus mmio_;
  CoalescedPorts coalesced_{ports_};
  // Connected to the i8042 only if the machine has a screen.
  devices::Ps2Keyboard ps2_keyboard_;
  devices::Ps2Mouse ps2_mouse_;
  std::unique_ptr<IrqLine> keyboard_line_, mouse_line_;
  std::unique_ptr<devices::I8042> i8042_;
  std::unique_ptr<devices::Port92> port92_;
  std::unique_ptr<IrqLine> pit_line_;
  std::unique_ptr<devices::Pit> pit_;
  EventLoop::Timer pit_timer_;
  std::unique_ptr<IrqLine> sci_;
  std::unique_ptr<devices::AcpiPm> acpi_pm_;
  EventLoop::Timer acpi_timer_;
  std::unique_ptr<IrqLine> rtc_line_;
  std::unique_ptr<devices::Rtc> rtc_;
  EventLoop::Timer rtc_timer_;
  std::unique_ptr<devices::Pvpanic> pvpanic_;
  std::unique_ptr<devices::DebugExit> debug_exit_;  // nullptr without --debug-exit
  std::unique_ptr<devices::FwCfg> fw_cfg_;
  std::shared_ptr<const GuestMemory> rom_;  // the firmware's image; nullptr: there is no firmware
  std::unique_ptr<devices::FirmwareLog> firmware_log_;
  bool uefi_ = false;  // the firmware is OVMF
  std::unique_ptr<devices::Flash> flash_;
  std::unique_ptr<devices::Piix> piix_;
  std::vector<SerialPort> serials_;
  // nullptr without a screen.
  Screen* screen_ = nullptr;
  std::unique_ptr<VideoMemory> video_memory_;
  std::unique_ptr<devices::Vga> vga_;
  virtio::Balloon balloon_;
  MsiPort msi_{vm_};
  std::vector<std::unique_ptr<SharedPin>> pci_pins_;
  std::unique_ptr<devices::AcpiHotplug> hotplug_;
  std::unique_ptr<devices::PciHost> pci_;
  std::map<uint8_t, std::string> pci_ids_;  // the id of the device in each used slot
  std::array<std::unique_ptr<IrqLine>, devices::Ide::kChannels> ide_lines_;
  std::unique_ptr<devices::Ide> ide_;
  // Indexed by IDE position; nullptr: the position is empty or has a CD-ROM drive.
  std::array<const devices::IdeDrive*, devices::Ide::kDrives> ide_disks_{};
  std::vector<EmulatedCard> cards_;
  std::vector<std::unique_ptr<PciSlot>> pci_slots_;
  std::vector<MmioSlot> mmio_slots_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
};

}  // namespace wick::vmm
