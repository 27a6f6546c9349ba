// Tests the PCI function of the IDE controller.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "devices/ide/ide.h"
#include "devices/pci/host.h"
#include "tests/devices/ide/fixture.h"

namespace wick::devices {
namespace {

using testing::Each;

class IdeOnPci : public IdeTest {
 protected:
  static constexpr uint8_t kSlot = 4;
  static constexpr Bus::Range kIoWindow{0xc000, 0x1000};

  IdeOnPci() {
    unplug();
    add(Kind::kDisk, false);
    ide_.emplace(memory_, lines_, std::array<IdeDrive*, 4>{drives_[0].get()});
    pci_.attach(kSlot, ide_->function(), 0).value();
    ports_.attach(kIoWindow, pci_.io_window(), "pci").value();
  }
  ~IdeOnPci() override { ide_.reset(); }

  uint64_t config(uint64_t offset, size_t width) {
    return fakes::read_register(pci_.ecam(), uint64_t{kSlot} << 15 | offset, width);
  }
  void set_config(uint64_t offset, uint64_t value, size_t width) {
    fakes::write_register(pci_.ecam(), uint64_t{kSlot} << 15 | offset, value, width);
  }
  uint64_t in(uint64_t port, size_t width) {
    std::array<std::byte, 8> data{};
    ports_.read(port, std::span(data).first(width));
    return load_le<uint64_t>(data);
  }
  void out(uint64_t port, uint64_t value, size_t width) {
    ports_.write(port, as_bytes(&value, width));
  }

  std::array<fakes::CountingLine, 2> irqs_;
  std::array<InterruptLine*, 2> lines_ = {&irqs_[0], &irqs_[1]};
  std::optional<Ide> ide_;
  PciHost pci_{{0xc000'0000, 0x10'0000}, [] {}, kIoWindow};
  Bus ports_;
};

TEST_F(IdeOnPci, IsWhatDriversLookFor) {
  EXPECT_EQ(config(0, 4), 0x71118086u);
  EXPECT_EQ(config(8, 4) >> 8, 0x010180u) << "IDE in compatibility mode, with a bus master";
  EXPECT_EQ(config(0x3d, 1), 0u) << "no PCI interrupt";
  EXPECT_EQ(config(0x40, 4), 0x8000u) << "the second channel is off";
  EXPECT_EQ(ide_->channel(1), nullptr);
  set_config(0x40, ~0u, 4);
  EXPECT_EQ(config(0x40, 4), 0x7fffffffu | 0x8000u) << "and stays so";
  set_config(0x48, ~0u, 4);
  EXPECT_EQ(config(0x48, 4), 0x3333000fu);
}

TEST_F(IdeOnPci, HasItsBusMastersInABarOfPorts) {
  EXPECT_EQ(config(4, 2) & 1, 1u);
  EXPECT_EQ(config(0x20, 4), 0xc001u);
  set_config(0x20, 0xffffffff, 4);
  EXPECT_EQ(config(0x20, 4), 0xfffffff1u);
  set_config(0x20, 0xc100, 4);
  EXPECT_EQ(in(0xc000, 4), 0xffffffffu);
  out(0xc104, 0x12345678, 4);
  EXPECT_EQ(in(0xc104, 4), 0x12345678u);
  EXPECT_EQ(in(0xc102, 1), 0x20u);
  EXPECT_EQ(in(0xc108, 8), ~0ull) << "nobody's: the second channel is not there";
  EXPECT_EQ(in(0xc106, 4), 0xffffffffu) << "over the border";
  out(0xc106, 0, 4);
  EXPECT_EQ(in(0xc104, 4), 0x12345678u);
  for (const uint64_t wild : {0x1f0u, 0u, 0xfff0u, 0xbff0u, 0xd000u}) {
    set_config(0x20, wild, 4);
    EXPECT_EQ(in(0xc104, 4), 0xffffffffu) << wild;
  }
  set_config(0x20, 0xc000, 4);
  set_config(4, 0, 2);
  EXPECT_EQ(in(0xc004, 4), 0xffffffffu) << "I/O space is off";
}

// PCI 3.0, 6.2.2: data that the back end delivers while Bus Master is clear stays in the
// drive's buffer.
TEST_F(IdeOnPci, MovesNoDataWithoutItsBusMasterBit) {
  const IdeHost guest(*ide_->channel(0));
  const IdeHost::Region region{kArea, 512, IdeHost::kLast};
  guest.set_table(memory_, kTable, std::span(&region, 1));
  set_delay(MemoryBackend::Delay::kHeld);
  guest.start(IdeHost::kToMemory);
  guest.command(kReadDma, 0, 1);
  ASSERT_TRUE(await_held());
  set_config(4, config(4, 2) & ~4u, 2);
  release();
  on_loop([] {});
  EXPECT_THAT(ram(kArea, 512), Each(std::byte{0}));
  EXPECT_TRUE(guest.busy());
  EXPECT_EQ(irqs_[0].edges(), 0);
  set_config(4, config(4, 2) | 4, 2);
  EXPECT_EQ(irqs_[0].edges(), 1);
  EXPECT_TRUE(same(ram(kArea, 512), on_disk(0, 512)));
}

TEST_F(IdeOnPci, TakesNoDataWithoutItsBusMasterBit) {
  const IdeHost guest(*ide_->channel(0));
  const IdeHost::Region region{kArea, 512, IdeHost::kLast};
  guest.set_table(memory_, kTable, std::span(&region, 1));
  const auto before = on_disk(0, 512);
  std::ranges::fill(ram(kArea, 512), std::byte{0x42});
  set_config(4, config(4, 2) & ~4u, 2);
  guest.start(0);
  guest.command(kWriteDma, 0, 1);
  on_loop([] {});
  EXPECT_TRUE(guest.busy());
  EXPECT_TRUE(same(on_disk(0, 512), before));
  // The drive's ports work without Bus Master: a reset ends the command.
  guest.control(kSoftwareReset);
  guest.control(0);
  set_config(4, config(4, 2) | 4, 2);
  on_loop([] {});
  EXPECT_TRUE(same(on_disk(0, 512), before));
}

TEST_F(IdeOnPci, NamesItsRegisters) {
  BusDevice& ports = ide_->channel(0)->command_block();
  EXPECT_EQ(ports.name_of(7, false).reg, "status");
  EXPECT_EQ(ports.name_of(7, true).reg, "command");
  EXPECT_EQ(pci_.io_window().name_of(2, false).reg, "bus master status");
  EXPECT_EQ(pci_.io_window().name_of(2, false).device, "ide0");
  EXPECT_EQ(pci_.io_window().name_of(8, false).reg, "");
}

}  // namespace
}  // namespace wick::devices
