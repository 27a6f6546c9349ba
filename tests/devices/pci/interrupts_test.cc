#include "devices/pci/interrupts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/fakes/counting_line.h"
#include "tests/fakes/recording_sink.h"
#include "tests/fakes/registers.h"

namespace wick::devices {
namespace {

using fakes::kWidths;
using fakes::read_register;
using fakes::write_register;
using testing::ElementsAre;
using testing::IsEmpty;
using Message = fakes::RecordingSink::Message;

constexpr uint16_t kVectors = 3;
constexpr uint64_t kEntryBytes = 16;
constexpr uint64_t kHigh = 4;
constexpr uint64_t kData = 8;
constexpr uint64_t kControl = 12;
constexpr uint64_t kApic = 0xfee0'0000;

class PciInterruptsTest : public testing::Test {
 protected:
  uint64_t read(uint64_t offset, size_t width = 4) {
    return read_register(interrupts_, offset, width);
  }
  void write(uint64_t offset, uint64_t value, size_t width = 4) {
    write_register(interrupts_, offset, value, width);
  }
  void set_masked(uint16_t vector, bool masked) {
    write(vector * kEntryBytes + kControl, masked ? 1 : 0);
  }
  // Vector n sends {kApic + 4096 * n, n + 1}.
  void set_vectors() {
    for (uint16_t vector = 0; vector < kVectors; ++vector) {
      write(vector * kEntryBytes, message(vector).address, 8);
      write(vector * kEntryBytes + kData, message(vector).data);
      set_masked(vector, false);
    }
  }
  static Message message(uint16_t vector) { return {kApic + 0x1000u * vector, vector + 1u}; }
  void use_msix(uint16_t more = 0) {
    interrupts_.configure({.msix_control = static_cast<uint16_t>(PCI_MSIX_FLAGS_ENABLE | more)});
  }
  void use_intx() { interrupts_.configure({}); }
  uint64_t pending() { return read(PciInterrupts::kPendingOffset, 8); }

  fakes::CountingLine line_;
  fakes::RecordingSink sink_;
  PciInterrupts interrupts_{kVectors, line_, sink_};
};

// --- the wire ---

TEST_F(PciInterruptsTest, TheWireFollowsTheDeviceAndIsToldOfChangesOnly) {
  interrupts_.set_intx(true);
  interrupts_.set_intx(true);
  EXPECT_TRUE(line_.level());
  EXPECT_TRUE(interrupts_.intx_pending());
  EXPECT_EQ(line_.sets(), 1);
  interrupts_.set_intx(false);
  interrupts_.set_intx(false);
  EXPECT_FALSE(line_.level());
  EXPECT_FALSE(interrupts_.intx_pending());
  EXPECT_EQ(line_.sets(), 2);
  EXPECT_EQ(line_.pulses(), 0);
}

// 6.2.3: Interrupt Status shows the device's interrupt whatever Interrupt Disable is.
TEST_F(PciInterruptsTest, ADisabledWireStaysLowAndRisesWhenEnabled) {
  interrupts_.configure({.intx_disabled = true});
  interrupts_.set_intx(true);
  EXPECT_FALSE(line_.level());
  EXPECT_TRUE(interrupts_.intx_pending());
  use_intx();
  EXPECT_TRUE(line_.level());
  interrupts_.configure({.intx_disabled = true});
  EXPECT_FALSE(line_.level());
}

// 6.8.3.3: a function that uses MSI-X is prohibited from using its wire.
TEST_F(PciInterruptsTest, SwitchingToMsixLowersTheWire) {
  interrupts_.set_intx(true);
  use_msix();
  EXPECT_FALSE(line_.level());
  EXPECT_FALSE(interrupts_.intx_pending());
  EXPECT_TRUE(interrupts_.msix_enabled());
  use_msix(PCI_MSIX_FLAGS_MASKALL);
  EXPECT_FALSE(line_.level());
  use_intx();
  EXPECT_TRUE(line_.level()) << "the device still wants service";
  EXPECT_THAT(sink_.take(), IsEmpty());
}

// --- messages ---

TEST_F(PciInterruptsTest, VectorsStartMasked) {
  for (uint16_t vector = 0; vector < kVectors; ++vector)
    EXPECT_EQ(read(vector * kEntryBytes + kControl), 1u);
  use_msix();
  interrupts_.send(0);
  EXPECT_THAT(sink_.take(), IsEmpty());
}

TEST_F(PciInterruptsTest, SendsTheMessageOfItsVector) {
  set_vectors();
  use_msix();
  interrupts_.send(2);
  interrupts_.send(0);
  interrupts_.send(2);
  EXPECT_THAT(sink_.take(), ElementsAre(message(2), message(0), message(2)));
  EXPECT_EQ(pending(), 0u);
  EXPECT_EQ(line_.sets(), 0);
}

TEST_F(PciInterruptsTest, AMaskedVectorIsPendingAndIsSentOnceWhenUnmasked) {
  set_vectors();
  use_msix();
  set_masked(1, true);
  for (int i = 0; i < 3; ++i) interrupts_.send(1);
  interrupts_.send(2);
  EXPECT_THAT(sink_.take(), ElementsAre(message(2))) << "the others are not masked";
  EXPECT_EQ(pending(), 0b010u);
  set_masked(1, false);
  EXPECT_THAT(sink_.take(), ElementsAre(message(1)));
  EXPECT_EQ(pending(), 0u);
  set_masked(1, true);
  set_masked(1, false);
  EXPECT_THAT(sink_.take(), IsEmpty());
}

TEST_F(PciInterruptsTest, TheFunctionMaskMasksEveryVector) {
  set_vectors();
  set_masked(1, true);
  use_msix(PCI_MSIX_FLAGS_MASKALL);
  for (uint16_t vector = 0; vector < kVectors; ++vector) interrupts_.send(vector);
  EXPECT_THAT(sink_.take(), IsEmpty());
  EXPECT_EQ(pending(), 0b111u);
  use_msix();
  EXPECT_THAT(sink_.take(), ElementsAre(message(0), message(2))) << "1 has a mask of its own";
  EXPECT_EQ(pending(), 0b010u);
}

// The driver may enable MSI-X after the device has sent to a vector.
TEST_F(PciInterruptsTest, WhatIsSentWhileMsixIsOffWaits) {
  set_vectors();
  interrupts_.send(0);
  EXPECT_THAT(sink_.take(), IsEmpty());
  use_msix();
  EXPECT_THAT(sink_.take(), ElementsAre(message(0)));
}

TEST_F(PciInterruptsTest, APendingMessageIsSentAsItsVectorThenSays) {
  set_vectors();
  use_msix();
  set_masked(0, true);
  interrupts_.send(0);
  write(0, 0x12345678);
  write(kHigh, 0x9a);
  write(kData, 0xabcd);
  set_masked(0, false);
  EXPECT_THAT(sink_.take(), ElementsAre(Message{0x9a'1234'5678, 0xabcd}));
}

// 6.8.3.5: a pending message whose cause is gone must not be sent after unmasking.
TEST_F(PciInterruptsTest, WhatIsWithdrawnIsNeitherPendingNorAsserted) {
  set_vectors();
  use_msix(PCI_MSIX_FLAGS_MASKALL);
  interrupts_.send(1);
  interrupts_.set_intx(true);
  interrupts_.clear();
  EXPECT_EQ(pending(), 0u);
  use_msix();
  use_intx();
  EXPECT_THAT(sink_.take(), IsEmpty());
  EXPECT_EQ(line_.sets(), 0);
  EXPECT_EQ(read(kEntryBytes), message(1).address) << "the table is the driver's";
}

TEST_F(PciInterruptsTest, AVectorThatDoesNotExistIsNobodysInterrupt) {
  set_vectors();
  use_msix();
  for (const uint16_t vector : std::to_array<uint16_t>({3, 64, 127, 128, 0xffff}))
    interrupts_.send(vector);
  EXPECT_THAT(sink_.take(), IsEmpty());
  EXPECT_EQ(pending(), 0u);
}

TEST_F(PciInterruptsTest, HasAPendingBitForEachOfAllVectors) {
  PciInterrupts most(PciInterrupts::kMaxVectors, line_, sink_);
  most.configure({.msix_control = PCI_MSIX_FLAGS_ENABLE});
  for (uint16_t vector = 0; vector < PciInterrupts::kMaxVectors; ++vector) {
    most.send(vector);
    const uint64_t word = PciInterrupts::kPendingOffset + vector / 64 * 8;
    EXPECT_EQ(read_register(most, word, 8), ~0ull >> (63 - vector % 64)) << vector;
    EXPECT_EQ(read_register(most, word + 4, 4), read_register(most, word, 8) >> 32) << vector;
  }
  EXPECT_EQ(read_register(most, PciInterrupts::kPendingOffset + 16, 8), 0u);
}

// --- the table and the pending bits as registers ---

TEST_F(PciInterruptsTest, TheTableTakesFourAndEightBytes) {
  write(0, 0x1122334455667788, 8);
  write(kData, 0xffff'ffff'99aa'bbcc, 8);
  EXPECT_EQ(read(0), 0x55667788u);
  EXPECT_EQ(read(kHigh), 0x11223344u);
  EXPECT_EQ(read(kData, 8), 0x1'99aa'bbccu) << "of the control word only the mask is kept";
  write(0, 0xffffffff);
  EXPECT_EQ(read(0, 8), 0x11223344'fffffffcu) << "6.8.2.6: the lowest two bits are 0";
}

TEST_F(PciInterruptsTest, OtherWidthsAndPlacesDoNothing) {
  set_vectors();
  interrupts_.send(1);
  for (const size_t width : kWidths) {
    for (uint64_t offset = 0; offset < PciInterrupts::kBarBytes - width; ++offset) {
      if ((width == 4 || width == 8) && offset % width == 0) continue;
      write(offset, ~0ull, width);
      ASSERT_EQ(read(offset, width), 0u) << offset << " by " << width;
    }
  }
  for (uint16_t vector = 0; vector < kVectors; ++vector) {
    EXPECT_EQ(read(vector * kEntryBytes, 8), message(vector).address);
    EXPECT_EQ(read(vector * kEntryBytes + kData, 8), message(vector).data);
  }
  EXPECT_EQ(pending(), 0b010u);
}

TEST_F(PciInterruptsTest, PastTheTableNothingIsKept) {
  set_vectors();
  interrupts_.send(2);
  for (const size_t width : {size_t{4}, size_t{8}}) {
    for (uint64_t offset = kVectors * kEntryBytes; offset < PciInterrupts::kBarBytes;
         offset += width) {
      write(offset, ~0ull, width);
      const bool bits = offset == PciInterrupts::kPendingOffset;
      ASSERT_EQ(read(offset, width), bits ? 0b100u : 0u) << offset << " by " << width;
    }
  }
  EXPECT_EQ(read(0, 8), message(0).address);
}

// --- several threads (run this one under TSan) ---

// A driver may change an entry without masking it. A message sent meanwhile consists of
// old and new words only, and a masked vector sends none.
TEST_F(PciInterruptsTest, ATornEntryIsMadeOfItsOldAndNewWords) {
  constexpr uint64_t kOld = 0x11'0000'1000;
  constexpr uint64_t kNew = 0x22'0000'2000;
  write(0, kOld, 8);
  set_masked(0, false);
  use_msix();
  std::atomic<bool> stop = false;
  std::thread device([&] {
    while (!stop) {
      interrupts_.send(0);
      interrupts_.set_intx(true);
      interrupts_.set_intx(false);
    }
  });
  std::set<uint64_t> seen;
  const auto look = [&] {
    for (const Message& sent : sink_.take()) seen.insert(sent.address);
  };
  for (int i = 0; i < 200; ++i) {
    const uint64_t address = i % 2 == 0 ? kNew : kOld;
    write(0, address);
    write(kHigh, address >> 32);
    look();
    if (i % 2 == 0) {
      set_masked(0, true);
    } else {
      use_msix(PCI_MSIX_FLAGS_MASKALL);
    }
    look();
    std::this_thread::yield();
    EXPECT_THAT(sink_.take(), IsEmpty()) << "sent while masked";
    set_masked(0, false);
    use_msix();
  }
  stop = true;
  device.join();
  for (const uint64_t address : seen) {
    EXPECT_THAT(address & 0xffffffff, testing::AnyOf(kOld & 0xffffffff, kNew & 0xffffffff));
    EXPECT_THAT(address >> 32, testing::AnyOf(kOld >> 32, kNew >> 32));
  }
  EXPECT_EQ(line_.sets(), 0);
}

// --- connected events ---

TEST_F(PciInterruptsTest, AConnectedEventFollowsItsVector) {
  const EventFd event = EventFd::create().value();
  set_vectors();
  interrupts_.connect(1, event);
  EXPECT_EQ(sink_.connected(event), std::nullopt) << "MSI-X is not in use";
  use_msix();
  EXPECT_EQ(sink_.connected(event), message(1));
  write(kEntryBytes + kData, 77);
  EXPECT_EQ(sink_.connected(event), (Message{message(1).address, 77}));
  set_masked(1, true);
  EXPECT_EQ(sink_.connected(event), std::nullopt) << "the event keeps what is signalled";
  set_masked(1, false);
  EXPECT_EQ(sink_.connected(event), (Message{message(1).address, 77}));
  use_msix(PCI_MSIX_FLAGS_MASKALL);
  EXPECT_EQ(sink_.connected(event), std::nullopt);
  use_msix();
  EXPECT_NE(sink_.connected(event), std::nullopt);
  interrupts_.disconnect(event);
  EXPECT_EQ(sink_.connected(event), std::nullopt);
  set_masked(1, true);
  set_masked(1, false);
  EXPECT_EQ(sink_.connected(event), std::nullopt);
}

TEST_F(PciInterruptsTest, AnEventOfAMaskedVectorIsConnectedLater) {
  const EventFd event = EventFd::create().value();
  set_vectors();
  set_masked(2, true);
  use_msix();
  interrupts_.connect(2, event);
  EXPECT_EQ(sink_.connected(event), std::nullopt);
  set_masked(2, false);
  EXPECT_EQ(sink_.connected(event), message(2));
}

TEST_F(PciInterruptsTest, AnEventOfNoVectorIsNotConnected) {
  const EventFd event = EventFd::create().value();
  set_vectors();
  use_msix();
  interrupts_.connect(kVectors, event);
  EXPECT_EQ(sink_.connected(event), std::nullopt);
}

TEST_F(PciInterruptsTest, AnEventThatTheSinkRefusesIsConnectedAtTheNextChange) {
  const EventFd event = EventFd::create().value();
  set_vectors();
  use_msix();
  sink_.can_connect = false;
  interrupts_.connect(0, event);
  EXPECT_EQ(sink_.connected(event), std::nullopt);
  sink_.can_connect = true;
  write(kData, 77);
  EXPECT_EQ(sink_.connected(event), (Message{message(0).address, 77}));
}

}  // namespace
}  // namespace wick::devices
