// How a board is assembled, seen as its guest sees it: what lies in which PCI slot, at which
// address, behind which interrupt. No vCPU runs. Here and not in tests/vmm, because a board
// needs KVM.
#include "vmm/board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/pci_regs.h>
#include <linux/virtio_mmio.h>

#include <algorithm>
#include <map>

#include "base/bytes.h"
#include "tests/fakes/temp_dir.h"
#include "tests/guests/tiny_guest.h"
#include "vmm/layout.h"

namespace wick::vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr uint32_t kAbsent = 0xffffffff;

class BoardTest : public testing::Test {
 protected:
  BoardTest() {
    config_.kernel_path = folder_.write("kernel", guests::bzimage(guests::Code().halt()));
    config_.memory_bytes = 32 << 20;
  }
  // A board needs the main loop's thread, which is this one; the loop need not run.
  ~BoardTest() override { board_.reset(); }

  void add_disk(DiskConfig::Device device) {
    DiskConfig disk;
    disk.path = folder_.write("disk" + std::to_string(config_.disks.size()), std::string(4096, 0));
    disk.format = DiskConfig::Format::kRaw;
    disk.device = device;
    config_.disks.push_back(disk);
  }
  void add_card(NetConfig::Device device) {
    NetConfig net;
    net.kind = NetConfig::Kind::kUser;
    net.device = device;
    net.mac = net::MacAddress{0x52, 0x54, 0, 0, 0, 1};
    config_.nets.push_back(net);
  }
  // An error's message; empty for success.
  std::string try_build() {
    if (!kvm_) kvm_.emplace(Kvm::open().value());
    if (!peripherals_) peripherals_.emplace(Peripherals::create(config_, *loop_, {}).value());
    board_.reset();
    auto made = Board::create(config_, boot::open_files(config_.kernel_path, {}, {}).value(), *kvm_,
                              *peripherals_, *loop_, clock_,
                              {.power_off = [] {}, .reset = [] {}, .panicked = [] {}});
    if (!made) return made.error().message();
    board_ = *std::move(made);
    return {};
  }
  void build() { ASSERT_EQ(try_build(), ""); }

  uint32_t config(uint32_t slot, uint32_t offset) const {
    std::array<std::byte, 4> data{};
    store_le(std::span(data), 0x80000000u | slot << 11 | offset);
    board_->ports().write(layout::kPciPort, data);
    board_->ports().read(layout::kPciPort + 4, data);
    return load_le<uint32_t>(data);
  }
  uint32_t mmio(uint64_t address) const {
    std::array<std::byte, 4> data{};
    data.fill(std::byte{0xff});
    board_->mmio().read(address, data);
    return load_le<uint32_t>(data);
  }
  // Device and vendor ID of each slot that has a function.
  std::map<uint32_t, uint32_t> functions() const {
    std::map<uint32_t, uint32_t> found;
    for (uint32_t slot = 0; slot < 32; ++slot)
      if (const uint32_t id = config(slot, PCI_VENDOR_ID); id != kAbsent) found[slot] = id;
    return found;
  }
  // The ACPI tables by their signatures, found as an operating system finds them (ACPI 6.5,
  // 5.2.5.1, 5.2.8).
  std::map<std::string, std::string> acpi_tables() const {
    std::map<std::string, std::string> tables;
    const auto bytes = [&](uint64_t address, size_t size) {
      const auto part = board_->memory().slice({address}, size);
      return part ? std::string(reinterpret_cast<const char*>(part->data()), size) : std::string();
    };
    const auto word = [](const std::string& text, size_t offset) {
      return load_le<uint32_t>(std::as_bytes(std::span(text)).subspan(offset, 4));
    };
    for (uint64_t at = 0xe0000; at < 0x100000; at += 16) {
      if (bytes(at, 8) != "RSD PTR ") continue;
      const uint32_t xsdt = word(bytes(at, 36), 24);
      const std::string root = bytes(xsdt, word(bytes(xsdt, 36), 4));
      for (size_t entry = 36; entry < root.size(); entry += 8) {
        const uint32_t address = word(root, entry);
        const std::string head = bytes(address, 36);
        tables[head.substr(0, 4)] = bytes(address, word(head, 4));
      }
      break;
    }
    return tables;
  }

  const fakes::TempDir folder_;
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  MachineConfig config_;
  GuestClock clock_;
  std::optional<Kvm> kvm_;
  std::optional<Peripherals> peripherals_;
  std::unique_ptr<Board> board_;
};

TEST_F(BoardTest, HasEachDeviceInItsSlot) {
  config_.consoles = {SerialConfig{}};
  add_disk(DiskConfig::Device::kVirtio);
  add_disk(DiskConfig::Device::kIde);
  add_disk(DiskConfig::Device::kVirtio);
  add_card(NetConfig::Device::kVirtio);
  add_card(NetConfig::Device::kE1000);
  build();
  EXPECT_THAT(functions(),
              ElementsAre(Pair(0, 0x0d578086), Pair(1, 0x10441af4),      // entropy
                          Pair(2, 0x10431af4), Pair(3, 0x10451af4),      // console, balloon
                          Pair(4, 0x71118086),                           // IDE
                          Pair(8, 0x10421af4), Pair(9, 0x10421af4),      // disks
                          Pair(24, 0x10411af4), Pair(25, 0x100e8086)));  // cards
}

// edk2, OvmfPkg: Library/AcpiTimerLib, SioBusDxe, Library/PlatformInitLib/Platform.c and
// QemuFlashFvbServicesRuntimeDxe.
TEST_F(BoardTest, HasWhatOvmfLooksForIfItsFirmwareIsAVolumeOfUefi) {
  constexpr uint64_t kPciStart = 0x8000'0000;
  std::string image(64 << 10, '\0');
  image.replace(40, 4, "_FVH");
  config_.kernel_path.clear();
  config_.firmware_path = folder_.write("OVMF_CODE.fd", image);
  const auto variables = boot::UefiVariables::open(
      "", folder_.write("VARS.fd", std::string(8192, 'v')), {layout::kFirmwareEnd - image.size()});
  ASSERT_TRUE(variables) << variables.error().message();
  kvm_.emplace(Kvm::open().value());
  peripherals_.emplace(Peripherals::create(config_, *loop_, {}).value());
  auto made = Board::create(
      config_,
      FirmwareStart{
          .image = boot::open_firmware(config_.firmware_path, layout::kMaxFirmwareBytes).value(),
          .variables = variables->get()},
      *kvm_, *peripherals_, *loop_, clock_,
      {.power_off = [] {}, .reset = [] {}, .panicked = [] {}});
  ASSERT_TRUE(made) << made.error().message();
  board_ = *std::move(made);

  EXPECT_EQ(config(0, 0), 0x12378086u);
  EXPECT_EQ(config(0, 0x100), 0x70008086u) << "the bridge to ISA, function 1";
  EXPECT_EQ(config(1, 0x300), 0x71138086u) << "the ACPI timer, function 3";
  EXPECT_EQ(config(1, 0x340) & ~1u, uint32_t{layout::kAcpiPmPort});
  EXPECT_EQ(config(1, PCI_BASE_ADDRESS_0), kPciStart) << "the entropy device";
  EXPECT_EQ(mmio(layout::kUefiPciEcam), 0x12378086u);

  const uint64_t flash = (*variables)->region().start.value;
  EXPECT_EQ(flash, layout::kFirmwareEnd - image.size() - 8192);
  const std::array read_status = {std::byte{0x70}};
  board_->mmio().write(flash + 5, read_status);
  EXPECT_EQ(mmio(flash + 5), devices::Flash::kReady);
  const std::array read_memory = {std::byte{0xff}};
  board_->mmio().write(flash + 5, read_memory);
  EXPECT_EQ(mmio(flash + 5), 0x76767676u);
}

TEST(UefiPciWindow, BeginsWhereOvmfPlacesBars) {
  constexpr uint64_t kGiB = 1 << 30;
  EXPECT_EQ(layout::uefi_pci_window(64 << 20), 2 * kGiB);
  EXPECT_EQ(layout::uefi_pci_window(2 * kGiB), 2 * kGiB);
  EXPECT_EQ(layout::uefi_pci_window(2 * kGiB + 4096), 3 * kGiB);
  EXPECT_EQ(layout::uefi_pci_window(layout::kLowRamEnd), 3 * kGiB);
}

// The window in memory shows the same configuration space as the ports.
TEST_F(BoardTest, HasTheSameConfigurationSpaceInMemory) {
  add_disk(DiskConfig::Device::kVirtio);
  build();
  for (const auto& [slot, id] : functions())
    for (uint32_t offset = 0; offset < 0x40; offset += 4)
      EXPECT_EQ(mmio(layout::kPciEcam + (slot << 15) + offset), config(slot, offset))
          << slot << " " << offset;
  EXPECT_EQ(mmio(layout::kPciEcam + (5 << 15)), kAbsent);
}

TEST_F(BoardTest, ConnectsEachSlotToTheInterruptThatAcpiNames) {
  add_disk(DiskConfig::Device::kVirtio);
  add_disk(DiskConfig::Device::kIde);
  add_card(NetConfig::Device::kE1000);
  build();
  for (const auto& [slot, id] : functions()) {
    if (slot == 0 || slot == layout::kIdeSlot) continue;  // neither has INTA
    const uint32_t interrupt = config(slot, PCI_INTERRUPT_LINE);
    EXPECT_EQ(interrupt & 0xff, layout::kPciIrqs[slot % layout::kPciIrqs.size()]) << slot;
    EXPECT_EQ(interrupt >> 8 & 0xff, 1u) << slot;  // INTA
  }
  EXPECT_EQ(config(layout::kIdeSlot, PCI_INTERRUPT_LINE) >> 8 & 0xff, 0u);
}

TEST_F(BoardTest, PlacesBarsInsideTheWindowWithoutOverlap) {
  for (int i = 0; i < 4; ++i) add_disk(DiskConfig::Device::kVirtio);
  add_card(NetConfig::Device::kE1000);
  add_card(NetConfig::Device::kVirtio);
  build();
  std::map<uint32_t, uint32_t> memory_bars;  // address to slot
  for (const auto& [slot, id] : functions()) {
    for (uint32_t bar = PCI_BASE_ADDRESS_0; bar <= PCI_BASE_ADDRESS_5; bar += 4) {
      const uint32_t value = config(slot, bar);
      if (value == 0) continue;
      const bool is_port = (value & PCI_BASE_ADDRESS_SPACE_IO) != 0;
      const uint64_t address = value & (is_port ? ~3u : ~15u);
      const Bus::Range window = is_port
                                    ? Bus::Range{layout::kPciIoWindow, layout::kPciIoWindowPorts}
                                    : Bus::Range{layout::kPciWindow, layout::kPciWindowBytes};
      EXPECT_GE(address, window.start) << slot;
      EXPECT_LT(address, window.start + window.size) << slot;
      if (!is_port) {
        EXPECT_TRUE(memory_bars.emplace(address, slot).second) << slot;
      }
      if ((value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64) bar += 4;
    }
  }
  EXPECT_GE(memory_bars.size(), 15u);
}

TEST_F(BoardTest, DescribesItsChipsInAcpiTables) {
  config_.cpus = 3;
  config_.serials = {SerialConfig{}, SerialConfig{}};
  build();
  const auto tables = acpi_tables();
  ASSERT_EQ(tables.count("FACP") + tables.count("APIC") + tables.count("MCFG"), 3u);
  const auto number = [&](const char* table, size_t offset) {
    return load_le<uint32_t>(std::as_bytes(std::span(tables.at(table))).subspan(offset, 4));
  };
  EXPECT_EQ(number("FACP", 56), layout::kAcpiPmPort);       // PM1a_EVT_BLK
  EXPECT_EQ(number("FACP", 64), layout::kAcpiPmPort + 4u);  // PM1a_CNT_BLK
  EXPECT_EQ(number("MCFG", 44), layout::kPciEcam);
  size_t cpus = 0;  // MADT entries: type, length
  const std::string& madt = tables.at("APIC");
  for (size_t at = 44; at < madt.size(); at += static_cast<uint8_t>(madt[at + 1]))
    if (madt[at] == 0) ++cpus;
  EXPECT_EQ(cpus, 3u);
  EXPECT_EQ(board_->vcpus().size(), 3u);
}

TEST_F(BoardTest, ConnectsEachSerialPortToItsConsole) {
  config_.serials = {SerialConfig{}, SerialConfig{}, SerialConfig{}, SerialConfig{}};
  build();
  for (size_t i = 0; i < 4; ++i) {
    const std::byte letter{static_cast<uint8_t>('a' + i)};
    board_->ports().write(layout::kSerialPorts[i], {&letter, 1});
  }
  for (size_t i = 0; i < 4; ++i)
    EXPECT_THAT(peripherals_->consoles()[i]->transcript().last_lines(1),
                ElementsAre(std::string(1, static_cast<char>('a' + i))));
  std::byte absent{};
  config_.serials.resize(1);
  board_.reset();
  peripherals_.reset();
  build();
  EXPECT_FALSE(board_->ports().read(layout::kSerialPorts[1], {&absent, 1}));
}

TEST_F(BoardTest, WithoutPciHasVirtioDevicesInWindowsOfTheirOwn) {
  config_.transport = MachineConfig::Transport::kMmio;
  add_disk(DiskConfig::Device::kVirtio);
  build();
  std::vector<uint32_t> ids;
  for (uint64_t address = layout::kVirtioMmioStart; mmio(address) == 0x74726976; address += 4096)
    ids.push_back(mmio(address + VIRTIO_MMIO_DEVICE_ID));
  EXPECT_THAT(ids, ElementsAre(2, 4, 5));  // disk, entropy, balloon
  EXPECT_THAT(board_->cmdline(), Not(HasSubstr("virtio_mmio.device")));
}

TEST_F(BoardTest, WithoutAcpiNamesVirtioDevicesOnTheCommandLine) {
  config_.acpi = false;
  add_disk(DiskConfig::Device::kVirtio);
  build();
  EXPECT_THAT(board_->cmdline(), AllOf(HasSubstr("virtio_mmio.device=0x1000@0xd0000000:10"),
                                       HasSubstr("virtio_mmio.device=0x1000@0xd0001000:11"),
                                       HasSubstr("root=/dev/vda")));
  EXPECT_THAT(acpi_tables(), testing::IsEmpty());
  for (int i = 0; i < 4; ++i) add_disk(DiskConfig::Device::kVirtio);
  board_.reset();
  peripherals_.reset();
  EXPECT_THAT(try_build(), HasSubstr("interrupts for only 5 virtio devices"));
}

// A reset builds another board on the same peripherals.
TEST_F(BoardTest, CanBeBuiltAgainOnTheSamePeripherals) {
  add_disk(DiskConfig::Device::kVirtio);
  add_disk(DiskConfig::Device::kIde);
  add_card(NetConfig::Device::kE1000);
  config_.serials = {SerialConfig{}};
  build();
  const auto before = functions();
  for (int i = 0; i < 3; ++i) build();
  EXPECT_EQ(functions(), before);
}

TEST_F(BoardTest, RefusesMoreCpusThanThereCanBe) {
  config_.cpus = 1000;
  EXPECT_THAT(try_build(), HasSubstr("vCPUs"));
}

}  // namespace
}  // namespace wick::vmm
