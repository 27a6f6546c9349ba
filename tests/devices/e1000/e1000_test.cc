// Tests the 82540EM: its identity, registers, link and interrupts.
#include "devices/e1000/e1000.h"

#include "devices/pci/host.h"
#include "tests/devices/e1000/fixture.h"

namespace wick::devices {
namespace {

using namespace e1000;
using fakes::read_register;
using fakes::wait_for;
using fakes::write_register;

// PHY registers.
constexpr uint32_t kPhyControl = 0;
constexpr uint32_t kPhyStatus = 1;
constexpr uint16_t kPhyLink = 1 << 2;
constexpr uint16_t kPhyNegotiated = 1 << 5;
constexpr uint16_t kPhyPowerDown = 1 << 11;

// --- identity ---

TEST_F(E1000Test, IsADesktopAdapterOnPci) {
  PciFunction& function = card_->function();
  const auto config = [&](uint64_t offset, size_t width) {
    std::array<std::byte, 8> data{};
    function.read_config(offset, std::span(data).first(width));
    return load_le<uint64_t>(data);
  };
  const auto size_of = [&](uint64_t bar) {
    const uint32_t ones = 0xffffffff;
    function.write_config(bar, as_bytes(&ones, 4));
    return config(bar, 4);
  };
  EXPECT_EQ(config(0x00, 4), 0x100e8086u);
  EXPECT_EQ(config(0x2c, 4), 0x001e8086u);
  EXPECT_EQ(config(0x09, 2) | config(0x0b, 1) << 16, 0x020000u) << "an Ethernet controller";
  EXPECT_EQ(config(0x3d, 1), 1u) << "INTA";
  EXPECT_EQ(config(0x34, 1), 0u) << "no capabilities, so no messages";
  EXPECT_EQ(size_of(0x10), 0xfffe0000u) << "128 KiB of memory";
  EXPECT_EQ(size_of(0x14), 0xffffffc1u) << "64 ports";
}

TEST_F(E1000Test, ItsEepromHoldsAddressAndChecksum) {
  uint16_t sum = 0;
  for (uint32_t i = 0; i < Eeprom::kWords; ++i) {
    sum = static_cast<uint16_t>(sum + driver_.eeprom_by_register(i));
    EXPECT_EQ(driver_.eeprom_by_wires(i), driver_.eeprom_by_register(i)) << i;
  }
  EXPECT_EQ(sum, 0xbaba);
  EXPECT_EQ(driver_.eeprom_by_register(0), 0x5452);
  EXPECT_EQ(driver_.eeprom_by_register(1), 0x1200);
  EXPECT_EQ(driver_.eeprom_by_register(2), 0x5634);
  EXPECT_EQ(driver_.eeprom_by_register(0x0d), 0x100e);
  EXPECT_EQ(driver_.eeprom_by_register(200), 0xffff) << "behind its end";
}

TEST_F(E1000Test, ItsEepromIsGrantedAndPresentAndSmall) {
  EXPECT_EQ(driver_.get(kEecd) & 0x3c0, 0x100u);
  driver_.set(kEecd, 0x40);
  EXPECT_EQ(driver_.get(kEecd) & 0x3c0, 0x1c0u);
}

TEST_F(E1000Test, ItsEepromCannotBeWritten) {
  const uint16_t before = driver_.eeprom_by_register(0);
  driver_.set(kEecd, 0x42);
  const auto clock = [&](uint32_t value, int bits) {
    for (int bit = bits - 1; bit >= 0; --bit) {
      const uint32_t pins = 0x42u | (value >> bit & 1) << 2;
      driver_.set(kEecd, pins);
      driver_.set(kEecd, pins | 1);
    }
  };
  clock(5u << 6, 9);  // write to word 0
  clock(0xabcd, 16);
  EXPECT_NE(driver_.get(kEecd) & 8, 0u) << "ready: no driver waits for ever";
  driver_.set(kEecd, 0);
  EXPECT_EQ(driver_.eeprom_by_register(0), before);
}

TEST_F(E1000Test, ReadsOneWordOfTheEepromAfterTheOther) {
  driver_.set(kEecd, 0x42);
  const auto clock = [&](uint32_t bit) {
    driver_.set(kEecd, 0x42u | bit << 2);
    driver_.set(kEecd, 0x43u | bit << 2);
    return driver_.get(kEecd) >> 3 & 1;
  };
  for (const uint32_t bit : {0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1}) clock(bit);  // read word 1
  uint32_t words = 0;
  for (int i = 0; i < 32; ++i) words = words << 1 | clock(0);
  EXPECT_EQ(words, 0x12005634u);
}

TEST_F(E1000Test, AResetTakesTheAddressFromTheEeprom) {
  EXPECT_EQ(driver_.get(kRa), 0x12005452u);
  EXPECT_EQ(driver_.get(kRa + 4), 0x80005634u);
  driver_.set(kRa, 1);
  driver_.set(kRa + 4, 2);
  driver_.set(kCtrl, kReset);
  EXPECT_EQ(driver_.get(kRa), 0x12005452u);
  EXPECT_EQ(driver_.get(kRa + 4), 0x80005634u);
}

// --- registers ---

TEST_F(E1000Test, HasTheManualsValuesAfterAReset) {
  const auto check = [&] {
    EXPECT_EQ(driver_.get(kCtrl), 0x241u);
    EXPECT_EQ(driver_.get(kStatus), 0x83u) << "full duplex, up, 1000 Mb/s";
    EXPECT_EQ(driver_.get(kVet), 0x8100u);
    EXPECT_EQ(driver_.get(0x0028), 0x00c28001u);
    EXPECT_EQ(driver_.get(0x1000), 0x00100030u);
    for (const uint32_t offset : {kIcr, kIms, kItr, kRctl, kTctl, kRdlen, kTdlen, kTdh, kRxcsum})
      EXPECT_EQ(driver_.get(offset), 0u) << offset;
  };
  check();
  for (uint32_t offset = 4; offset < kRegisterBytes; offset += 4)
    if (offset != kCtrlCopy && offset != kMdic) driver_.set(offset, 0x5a5a5a5a);
  driver_.set(kCtrl, kReset);
  check();
  EXPECT_EQ(driver_.get(kMta), 0u);
  EXPECT_EQ(driver_.get(kVfta + 508), 0u);
  EXPECT_FALSE(line_.level());
}

TEST_F(E1000Test, KeepsTheBitsThatThereAre) {
  const auto keeps = [&](uint32_t offset, uint32_t value) {
    driver_.set(offset, 0xffffffff);
    EXPECT_EQ(driver_.get(offset), value) << find_register(offset)->name;
    driver_.set(offset, 0);
    EXPECT_EQ(driver_.get(offset), 0u) << find_register(offset)->name;
  };
  keeps(kRdbal, 0xfffffff0);
  keeps(kRdbah, 0xffffffff);
  keeps(kRdlen, 0x000fff80);
  keeps(kRdt, 0xffff);
  keeps(kTdbal, 0xfffffff0);
  keeps(kTdlen, 0x000fff80);
  keeps(kTctl, 0x037ffffa);
  keeps(kItr, 0xffff);
  keeps(kMta + 4 * 127, 0xffffffff);
  keeps(kVfta + 4 * 127, 0xffffffff);
  keeps(kRa + 4 * 30, 0xffffffff);
  keeps(kRa + 4 * 31, 0x8003ffff);
}

TEST_F(E1000Test, ItsRegistersAreWords) {
  write_register(card_->memory_bar(), kTdbal, 0x12345670, 4);
  EXPECT_EQ(read_register(card_->memory_bar(), kTdbal + 1, 1), 0x56u);
  EXPECT_EQ(read_register(card_->memory_bar(), kTdbal + 2, 2), 0x1234u);
  EXPECT_EQ(read_register(card_->memory_bar(), kTdbal + 3, 3), 0x12u);
  write_register(card_->memory_bar(), kTdbal, 0xff, 1);
  write_register(card_->memory_bar(), kTdbal + 2, 0xffffffff, 4);
  EXPECT_EQ(driver_.get(kTdbal), 0x12345670u) << "less than a word has no effect";
  write_register(card_->memory_bar(), kTdbal, 0x11111111'22222222, 8);
  EXPECT_EQ(read_register(card_->memory_bar(), kTdbal, 8), 0x11111111'22222220u);
}

TEST_F(E1000Test, AllRegistersAreBehindTwoPorts) {
  BusDevice& io = card_->io_bar();
  write_register(io, E1000::kIoAddress, kVet, 4);
  EXPECT_EQ(read_register(io, E1000::kIoAddress, 4), kVet);
  EXPECT_EQ(read_register(io, E1000::kIoData, 4), 0x8100u);
  write_register(io, E1000::kIoData, 0x1234, 4);
  EXPECT_EQ(driver_.get(kVet), 0x1234u);
  write_register(io, E1000::kIoAddress, kCtrl, 4);
  write_register(io, E1000::kIoData, kReset, 4);
  EXPECT_EQ(driver_.get(kVet), 0x8100u) << "Linux resets the card this way";
  write_register(io, E1000::kIoAddress, 0xfffffffc, 4);
  write_register(io, E1000::kIoData, 0xffffffff, 4);
  EXPECT_EQ(read_register(io, E1000::kIoData, 4), 0u);
  EXPECT_EQ(read_register(io, 8, 4), 0u);
}

TEST_F(E1000Test, NamesItsRegistersForStatistics) {
  const auto name = [&](uint64_t offset) { return card_->memory_bar().name_of(offset, false).reg; };
  EXPECT_EQ(name(kTdt), "TDT");
  EXPECT_EQ(name(kIcr + 1), "ICR");
  EXPECT_EQ(name(kMta + 400), "MTA");
  EXPECT_EQ(name(kRa + 8 * 15), "RAL");
  EXPECT_EQ(name(kRa + 8 * 15 + 4), "RAH");
  EXPECT_EQ(name(0x44), "");
  EXPECT_EQ(name(0x1ffff), "");
  EXPECT_EQ(card_->memory_bar().name_of(0, false).device, "eth0");
  EXPECT_EQ(card_->io_bar().name_of(4, true).reg, "IODATA");
}

TEST_F(E1000Test, AccessThroughThePciBridgeReachesIt) {
  PciHost host({0xc0000000, 0x100000}, [] {}, {0xc000, 0x1000});
  ASSERT_TRUE(host.attach(3, card_->function(), 11));
  EXPECT_EQ(read_register(host.window(), kVet, 4), 0x8100u);
  write_register(host.io_window(), E1000::kIoAddress, kVet, 4);
  EXPECT_EQ(read_register(host.io_window(), E1000::kIoData, 4), 0x8100u);
}

TEST_F(E1000Test, ThePowerOnResetAlsoResetsThePhy) {
  const E1000::State first = card_->state();
  driver_.set_phy(kPhyControl, kPhyPowerDown);
  driver_.set(kEecd, 0x42);
  write_register(card_->io_bar(), E1000::kIoAddress, 8, 4);
  driver_.set(kCtrl, kReset);
  EXPECT_NE(driver_.phy(kPhyControl) & kPhyPowerDown, 0) << "not by CTRL.RST";
  EXPECT_FALSE(card_->state() == first);
  card_->reset();
  EXPECT_TRUE(card_->state() == first);
}

// --- the link ---

TEST_F(E1000Test, ItsPhyHasNegotiatedAGigabit) {
  EXPECT_EQ(driver_.phy(2), 0x0141);
  EXPECT_EQ(driver_.phy(3), 0x0c20);
  EXPECT_EQ(driver_.phy(kPhyStatus), 0x796d);
  EXPECT_EQ(driver_.phy(10), 0x3c00) << "the partner can do it too";
  EXPECT_EQ(driver_.phy(17), 0xac00) << "resolved: 1000 Mb/s, full duplex";
  driver_.set(kMdic, kMdicRead | 2 << 21 | kPhyStatus << 16);
  EXPECT_NE(driver_.get(kMdic) & kMdicError, 0u) << "there is no other PHY";
  EXPECT_NE(driver_.get(kMdic) & kMdicReady, 0u);
}

TEST_F(E1000Test, AnAccessToThePhyMayInterrupt) {
  driver_.set(kIms, kMdac);
  driver_.set(kMdic, kMdicRead | 1 << 21);
  EXPECT_FALSE(line_.level());
  driver_.set(kMdic, kMdicRead | kMdicInterrupt | 1 << 21);
  EXPECT_TRUE(line_.level());
}

TEST_F(E1000Test, FollowsTheCable) {
  driver_.set(kIms, kLsc);
  network_.set_link(false);
  settle();
  EXPECT_EQ(line_.edges(), 1);
  EXPECT_EQ(driver_.get(kIcr), kLsc);
  EXPECT_EQ(driver_.get(kStatus) & kStatusUp, 0u);
  EXPECT_EQ(driver_.phy(kPhyStatus) & (kPhyLink | kPhyNegotiated), 0);
  EXPECT_EQ(driver_.phy(5), 0) << "no partner";
  EXPECT_EQ(driver_.phy(17), 0);
  network_.set_link(false);
  settle();
  EXPECT_EQ(line_.edges(), 1) << "no change";
  network_.set_link(true);
  settle();
  EXPECT_EQ(line_.edges(), 2);
  EXPECT_NE(driver_.get(kStatus) & kStatusUp, 0u);
  EXPECT_NE(driver_.phy(kPhyStatus) & kPhyLink, 0);
}

TEST_F(E1000Test, APhyThatIsSwitchedOffHasNoLink) {
  driver_.set(kIms, kLsc);
  driver_.set_phy(kPhyControl, 0x1140 | kPhyPowerDown);
  EXPECT_EQ(driver_.get(kIcr), kLsc);
  EXPECT_EQ(driver_.get(kStatus) & kStatusUp, 0u);
  driver_.set_phy(kPhyControl, 0x1140);
  EXPECT_EQ(driver_.get(kIcr), kLsc);
  EXPECT_NE(driver_.get(kStatus) & kStatusUp, 0u);
  driver_.set_phy(kPhyControl, 0x1140 | 1 << 9);
  EXPECT_EQ(driver_.get(kIcr), kLsc) << "negotiated again";
  driver_.set_phy(kPhyControl, 0x9140);
  EXPECT_EQ(driver_.phy(kPhyControl), 0x1140) << "its reset is over";
}

// --- interrupts ---

TEST_F(E1000Test, InterruptsForTheCausesThatAreEnabled) {
  driver_.set(kIcs, kTxdw | kLsc);
  EXPECT_FALSE(line_.level());
  driver_.set(kIms, kRxt0);
  EXPECT_FALSE(line_.level());
  driver_.set(kIms, kLsc);
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(driver_.get(kIms), kRxt0 | kLsc);
  driver_.set(kImc, kLsc);
  EXPECT_FALSE(line_.level());
  EXPECT_EQ(driver_.get(kIms), kRxt0);
  driver_.set(kIms, kLsc);
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(driver_.get(kIcr), kTxdw | kLsc) << "what is masked is there too";
  EXPECT_FALSE(line_.level()) << "read, so cleared";
  EXPECT_EQ(driver_.get(kIcr), 0u);
}

// Linux's interrupt test sets ten causes, some of which have no meaning.
TEST_F(E1000Test, AnyCauseCanBeSetByHand) {
  for (uint32_t bit = 0; bit < 10; ++bit) {
    driver_.set(kIms, 1u << bit);
    driver_.set(kIcs, 1u << bit);
    EXPECT_TRUE(line_.level()) << bit;
    EXPECT_EQ(driver_.get(kIcr), 1u << bit);
    driver_.set(kImc, 0xffffffff);
  }
}

TEST_F(E1000Test, WritingOnesToTheCausesClearsThem) {
  driver_.set(kIms, kCauses);
  driver_.set(kIcs, kTxdw | kLsc);
  driver_.set(kIcr, kTxdw);
  EXPECT_TRUE(line_.level());
  driver_.set(kIcr, kLsc);
  EXPECT_FALSE(line_.level());
}

TEST_F(E1000Test, TheInterruptDisableBitOfPciHoldsTheLineDown) {
  driver_.set(kIms, kCauses);
  driver_.set(kIcs, kLsc);
  const uint16_t command = 1 << 10;
  card_->function().write_config(4, as_bytes(&command, 2));
  EXPECT_FALSE(line_.level());
  const uint16_t none = 0;
  card_->function().write_config(4, as_bytes(&none, 2));
  EXPECT_TRUE(line_.level());
}

TEST_F(E1000Test, ThrottledInterruptsKeepTheirDistance) {
  constexpr uint32_t kUnits = 400;  // 102.4 us
  driver_.set(kItr, kUnits);
  driver_.set(kIms, kCauses);
  driver_.set(kIcs, kRxt0);
  EXPECT_EQ(line_.edges(), 1) << "the first one need not wait";
  EXPECT_EQ(driver_.get(kIcr), kRxt0);
  driver_.set(kIcs, kRxt0);
  driver_.set(kIcs, kTxdw);
  now_ns_ += kUnits * kItrUnitNs - 1;
  EXPECT_FALSE(line_.level());
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  settle();
  EXPECT_FALSE(line_.level()) << "by the card's clock it is too early";
  now_ns_ += 1;
  EXPECT_TRUE(wait_for([&] {
    settle(1);
    return line_.level();
  }));
  EXPECT_EQ(line_.edges(), 2);
  EXPECT_EQ(driver_.get(kIcr), kRxt0 | kTxdw) << "one for both";
}

TEST_F(E1000Test, AnInterruptThatIsServedBeforeItsTimeIsNone) {
  driver_.set(kItr, 4);
  driver_.set(kIms, kCauses);
  driver_.set(kIcs, kRxt0);
  (void)driver_.get(kIcr);
  driver_.set(kIcs, kRxt0);
  EXPECT_EQ(driver_.get(kIcr), kRxt0);
  now_ns_ += 1'000'000;
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  settle();
  EXPECT_EQ(line_.edges(), 1);
}

TEST_F(E1000Test, WithoutThrottlingAWaitingInterruptComesAtOnce) {
  driver_.set(kItr, 0xffff);
  driver_.set(kIms, kCauses);
  driver_.set(kIcs, kRxt0);
  (void)driver_.get(kIcr);
  driver_.set(kIcs, kRxt0);
  EXPECT_FALSE(line_.level());
  driver_.set(kItr, 0);
  EXPECT_TRUE(line_.level());
}

// --- PCI and destruction ---

TEST_F(E1000Test, AnotherCardTakesTheBackEndOver) {
  fakes::FakeNetwork network;
  for (int i = 0; i < 3; ++i) {
    const auto card = E1000::create(network, *loop_, kMac, memory_, line_, "eth1").value();
    network.arrive({{}, frame(100)});
    network.set_link(i % 2 == 0);
    Driver(*card, memory_).start_receiver(0);
  }
  settle();
  EXPECT_EQ(network.offloads(), net::Offloads());
}

}  // namespace
}  // namespace wick::devices
