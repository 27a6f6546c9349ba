#include "devices/serial.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_console.h"

namespace wick::devices {
namespace {

// Register offsets and bits by the names that Linux's 8250 driver uses.
enum : uint64_t { RX = 0, TX = 0, DLL = 0, IER = 1, DLM = 1, IIR = 2, FCR = 2 };
enum : uint64_t { LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
enum : uint8_t { IER_RDI = 1, IER_THRI = 2, IER_RLSI = 4, IER_MSI = 8 };
enum : uint8_t { LSR_DR = 0x01, LSR_OE = 0x02, LSR_BI = 0x10, LSR_IDLE = 0x60, LSR_FIFOE = 0x80 };
enum : uint8_t { NO_INT = 1, THRI = 2, RDI = 4, RLSI = 6, TIMEOUT = 0xc, MSI = 0, FIFOS = 0xc0 };
enum : uint8_t { MCR_LOOP = 0x10 };

class SerialTest : public testing::Test {
 protected:
  SerialTest() { console_.connect(serial_); }

  uint8_t in(uint64_t port) {
    std::byte value{};
    serial_.read(port, {&value, 1});
    return std::to_integer<uint8_t>(value);
  }
  void out(uint64_t port, uint8_t value) {
    const std::byte byte{value};
    serial_.write(port, {&byte, 1});
  }
  // Reads the received bytes, as a driver does, until there are no more.
  std::string read_all() {
    std::string text;
    while ((in(LSR)&LSR_DR) != 0) text += static_cast<char>(in(RX));
    return text;
  }
  void enable_fifos(uint8_t trigger = 0x80) { out(FCR, static_cast<uint8_t>(0x01 | trigger)); }

  fakes::FakeConsole console_;
  fakes::CountingLine line_;
  Serial serial_{console_, line_};
};

TEST_F(SerialTest, NamesItsRegistersByDirection) {
  EXPECT_EQ(serial_.name_of(TX, true).reg, "THR");
  EXPECT_EQ(serial_.name_of(RX, false).reg, "RBR");
  EXPECT_EQ(serial_.name_of(FCR, true).reg, "FCR");
  EXPECT_EQ(serial_.name_of(IIR, false).reg, "IIR");
  EXPECT_EQ(serial_.name_of(LSR, false).reg, "LSR");
}

// --- as Linux's 8250 driver probes and starts it (8250_port.c) --------------

TEST_F(SerialTest, IsAutoconfiguredAs16550A) {
  // autoconfig(): is there a chip?
  const uint8_t ier = in(IER);
  out(IER, 0);
  EXPECT_EQ(in(IER), 0);
  out(IER, 0x0f);
  EXPECT_EQ(in(IER), 0x0f);
  out(IER, ier);

  const uint8_t mcr = in(MCR);
  out(MCR, MCR_LOOP | 0x0a);
  EXPECT_EQ(in(MSR)&0xf0, 0x90);
  out(MCR, mcr);

  // Which chip is it?
  out(LCR, 0xbf);
  out(FCR, 0);  // offset 2 is the EFR on a 16650
  out(LCR, 0);
  out(FCR, 0x01);
  EXPECT_EQ(in(IIR) >> 6, 3);

  // autoconfig_16550a(): the chip is no later model.
  out(LCR, 0x80);
  EXPECT_NE(in(FCR), 0) << "an EFR: ST16C650V1";
  out(LCR, 0xbf);
  EXPECT_NE(in(FCR), 0) << "an EFR: ST16C650V2";
  out(LCR, 0);
  const uint8_t before = in(MCR);
  out(LCR, 0xe0);
  EXPECT_EQ((in(IIR) ^ before) & MCR_LOOP, 0);
  out(LCR, 0);
  out(MCR, before ^ MCR_LOOP);
  out(LCR, 0xe0);
  EXPECT_EQ((in(IIR) ^ before) & MCR_LOOP, 0) << "EXCR1: a National Super I/O";
  out(LCR, 0);
  out(MCR, before);
  out(FCR, 0x21);
  EXPECT_EQ(in(IIR) >> 5, 6) << "64-byte FIFO: TI16750";
  out(FCR, 0x01);
  out(IER, 0x40);
  EXPECT_EQ(in(IER), 0) << "UART unit enable: XScale";

  // size_fifo(): how many of 256 bytes sent in loopback are received?
  const uint8_t dll = (out(LCR, 0x80), in(DLL));
  const uint8_t dlm = in(DLM);
  EXPECT_NE(dll | dlm << 8, 0) << "probe_baud() divides by it";
  out(DLL, 1);
  out(DLM, 0);
  out(LCR, 0x03);
  out(FCR, 0x07);
  out(MCR, MCR_LOOP);
  for (int i = 0; i < 256; ++i) out(TX, static_cast<uint8_t>(i));
  std::vector<uint8_t> back;
  while ((in(LSR)&LSR_DR) != 0 && back.size() < 256) back.push_back(in(RX));
  EXPECT_EQ(back, (std::vector<uint8_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
  out(MCR, 0);
  EXPECT_EQ(console_.output(), "") << "loopback does not reach the line";
}

TEST_F(SerialTest, HasNoneOfTheBugsThatStartupTestsFor) {
  // serial8250_do_startup(): tests for UART_BUG_THRE, a THRE interrupt that is not raised
  // again.
  out(IER, IER_THRI);
  EXPECT_EQ(in(IIR), THRI);
  out(IER, 0);
  out(IER, IER_THRI);
  EXPECT_EQ(in(IIR), THRI);
  out(IER, 0);
  // serial8250_do_startup(): tests for UART_BUG_TXEN.
  out(IER, IER_THRI);
  EXPECT_EQ(in(LSR), LSR_IDLE);
  EXPECT_EQ(in(IIR), THRI);
  out(IER, 0);
  EXPECT_FALSE(line_.level());
}

TEST_F(SerialTest, KeepsScratchLineControlAndDivisor) {
  out(SCR, 0xa5);
  EXPECT_EQ(in(SCR), 0xa5);
  out(LCR, 0x83);
  out(DLL, 0x34);
  out(DLM, 0x12);
  EXPECT_EQ(in(DLL), 0x34);
  EXPECT_EQ(in(DLM), 0x12);
  out(LCR, 0x03);
  EXPECT_EQ(in(LCR), 0x03);
  EXPECT_EQ(in(IER), 0);
  EXPECT_EQ(serial_.state().divisor, 0x1234);
  EXPECT_EQ(console_.output(), "");
}

// --- transmitter ------------------------------------------------------------

TEST_F(SerialTest, SendsAtOnceAndIsAlwaysReadyForMore) {
  for (const char c : std::string("hello")) {
    EXPECT_EQ(in(LSR), LSR_IDLE);
    out(TX, static_cast<uint8_t>(c));
  }
  EXPECT_EQ(console_.output(), "hello");
  EXPECT_EQ(line_.sets(), 0) << "polled output costs no interrupts";
}

TEST_F(SerialTest, SendsUnderBreakControlToo) {
  out(LCR, 0x43);
  out(TX, 'x');
  EXPECT_EQ(console_.output(), "x");
}

TEST_F(SerialTest, InterruptsWhenTheTransmitterHasRunEmpty) {
  out(IER, IER_THRI);
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(in(IIR), THRI);
  EXPECT_FALSE(line_.level()) << "reading the IIR serves it";
  EXPECT_EQ(in(IIR), NO_INT);
  out(TX, 'a');
  EXPECT_TRUE(line_.level());
  out(TX, 'b');
  EXPECT_EQ(line_.edges(), 2);
  EXPECT_EQ(in(IIR), THRI);
  EXPECT_FALSE(line_.level());
}

TEST_F(SerialTest, WritingTheSameInterruptEnableAgainRaisesNothing) {
  out(IER, IER_THRI);
  in(IIR);
  out(IER, IER_THRI | IER_RDI);
  EXPECT_FALSE(line_.level());
}

TEST_F(SerialTest, AnUnreportedTransmitterInterruptSurvivesOneOfHigherPriority) {
  out(IER, IER_THRI | IER_RDI);
  console_.type("x");
  EXPECT_EQ(in(IIR), RDI);
  EXPECT_EQ(in(RX), 'x');
  EXPECT_EQ(in(IIR), THRI);
  EXPECT_EQ(in(IIR), NO_INT);
}

TEST_F(SerialTest, ChangingTheFifoModeRaisesTheTransmitterInterrupt) {
  out(IER, IER_THRI);
  in(IIR);
  enable_fifos();
  EXPECT_EQ(in(IIR), FIFOS | THRI);
}

// --- receiver ---------------------------------------------------------------

TEST_F(SerialTest, WithoutFifosTakesOneByteAtATime) {
  out(IER, IER_RDI);
  EXPECT_EQ(console_.type("ab"), 1u);
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(in(IIR), RDI);
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR);
  EXPECT_EQ(in(RX), 'a');
  EXPECT_FALSE(line_.level());
  EXPECT_EQ(in(LSR), LSR_IDLE);
  EXPECT_EQ(console_.times_wanted(), 1);
}

TEST_F(SerialTest, ReportsInputBelowTheTriggerLevelAsTimeout) {
  for (const auto& [code, level] :
       std::vector<std::pair<uint8_t, size_t>>{{0x00, 1}, {0x40, 4}, {0x80, 8}, {0xc0, 14}}) {
    enable_fifos(code);
    out(IER, IER_RDI);
    console_.type(std::string(level, 'x'));
    EXPECT_EQ(in(IIR), FIFOS | RDI) << level;
    EXPECT_EQ(in(RX), 'x');
    if (level > 1) {
      EXPECT_EQ(in(IIR), FIFOS | TIMEOUT) << level;
      EXPECT_TRUE(line_.level()) << "input would be stuck";
    }
    read_all();
    EXPECT_EQ(in(IIR), FIFOS | NO_INT);
    EXPECT_FALSE(line_.level());
  }
}

TEST_F(SerialTest, DeliversInputOfAnyLengthInOrder) {
  enable_fifos();
  out(IER, IER_RDI | IER_RLSI);
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::to_string(i);
  std::string got;
  for (size_t sent = 0; sent < text.size();) {
    const int wanted = console_.times_wanted();
    const size_t taken = console_.type(std::string_view(text).substr(sent));
    sent += taken;
    ASSERT_GT(taken, 0u);
    ASSERT_TRUE(line_.level());
    got += read_all();
    ASSERT_FALSE(line_.level());
    ASSERT_EQ(console_.times_wanted() - wanted, sent < text.size() ? 1 : 0);
  }
  EXPECT_EQ(got, text);
  EXPECT_EQ(in(LSR)&LSR_OE, 0);
}

TEST_F(SerialTest, ClearingTheReceiverMakesRoom) {
  enable_fifos();
  console_.type("0123456789abcdefgh");
  out(FCR, 0x83);
  EXPECT_EQ(in(LSR), LSR_IDLE);
  EXPECT_EQ(console_.times_wanted(), 1);
  EXPECT_EQ(console_.type("gh"), 2u);
  EXPECT_EQ(read_all(), "gh");
}

TEST_F(SerialTest, ChangingTheFifoModeClearsTheReceiver) {
  console_.type("x");
  enable_fifos();
  EXPECT_EQ(in(LSR), LSR_IDLE);
  console_.type("yz");
  out(FCR, 0);
  EXPECT_EQ(in(LSR), LSR_IDLE);
}

TEST_F(SerialTest, IgnoresTheOtherFifoBitsWithoutTheEnableBit) {
  enable_fifos(0xc0);
  out(FCR, 0xc8);
  EXPECT_EQ(serial_.state().fifo_control, 0);
  EXPECT_EQ(in(IIR), NO_INT);
  console_.type("x");
  out(FCR, 0x06);
  EXPECT_EQ(read_all(), "x");
}

TEST_F(SerialTest, ReadingAnEmptyReceiverIsHarmless) {
  EXPECT_EQ(in(RX), 0);
  enable_fifos();
  EXPECT_EQ(in(RX), 0);
  EXPECT_EQ(in(LSR), LSR_IDLE);
}

// --- break ------------------------------------------------------------------

TEST_F(SerialTest, RevealsABreakWhenItReachesTheTop) {
  enable_fifos();
  out(IER, IER_RDI | IER_RLSI);
  console_.type("a");
  console_.send_break();
  console_.type("h");

  EXPECT_EQ(in(IIR), FIFOS | TIMEOUT);
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR | LSR_FIFOE);
  EXPECT_EQ(in(RX), 'a');
  EXPECT_EQ(in(IIR), FIFOS | RLSI);
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR | LSR_BI | LSR_FIFOE);
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR) << "reading it clears it";
  EXPECT_EQ(in(IIR), FIFOS | TIMEOUT);
  EXPECT_EQ(in(RX), 0);
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR);
  EXPECT_EQ(in(RX), 'h');
  EXPECT_FALSE(line_.level());
}

TEST_F(SerialTest, ABreakWaitsForRoomAndKeepsItsPlace) {
  enable_fifos();
  out(IER, IER_RDI | IER_RLSI);
  EXPECT_EQ(console_.type("0123456789abcdef"), 16u);
  console_.send_break();
  EXPECT_EQ(console_.type("h"), 0u);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(console_.type("h"), 0u) << "it would overtake";
    EXPECT_EQ(in(LSR) & (LSR_BI | LSR_OE), 0);
    in(RX);
  }
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(in(LSR)&LSR_BI, LSR_BI);
  EXPECT_EQ(console_.times_wanted(), 0);
  in(RX);
  EXPECT_EQ(console_.times_wanted(), 1);
  EXPECT_EQ(console_.type("h"), 1u);
  EXPECT_EQ(read_all(), "h");
}

TEST_F(SerialTest, WithoutFifosABreakIsReportedToo) {
  out(IER, IER_RLSI);
  console_.send_break();
  EXPECT_EQ(in(IIR), RLSI);
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR | LSR_BI);
  EXPECT_FALSE(line_.level());
  EXPECT_EQ(in(RX), 0);
}

// --- loopback and overrun ---------------------------------------------------

TEST_F(SerialTest, LoopbackIsCutOffFromTheLine) {
  out(MCR, MCR_LOOP);
  EXPECT_EQ(console_.type("x"), 0u);
  out(TX, 'y');
  EXPECT_EQ(in(RX), 'y');
  EXPECT_EQ(console_.output(), "");
  EXPECT_EQ(console_.times_wanted(), 0) << "there is no room for input yet";
  out(MCR, 0);
  EXPECT_EQ(console_.times_wanted(), 1);
  EXPECT_EQ(console_.type("x"), 1u);
}

TEST_F(SerialTest, OverrunInLoopbackLosesTheNewestWithFifos) {
  enable_fifos();
  out(IER, IER_RLSI);
  out(MCR, MCR_LOOP);
  for (char c = 'a'; c <= 'q'; ++c) out(TX, static_cast<uint8_t>(c));
  EXPECT_EQ(in(IIR), FIFOS | RLSI);
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR | LSR_OE);
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR);
  EXPECT_FALSE(line_.level());
  EXPECT_EQ(read_all(), "abcdefghijklmnop");
}

TEST_F(SerialTest, OverrunInLoopbackLosesTheOldestWithoutFifos) {
  out(MCR, MCR_LOOP);
  out(TX, 'a');
  out(TX, 'b');
  EXPECT_EQ(in(LSR), LSR_IDLE | LSR_DR | LSR_OE);
  EXPECT_EQ(in(RX), 'b');
}

// --- modem lines ------------------------------------------------------------

TEST_F(SerialTest, AModemIsThereAndReady) { EXPECT_EQ(in(MSR), 0xb0); }

TEST_F(SerialTest, LoopbackConnectsTheModemLines) {
  out(MCR, MCR_LOOP);
  in(MSR);
  for (const auto& [mcr, msr] : std::vector<std::pair<uint8_t, uint8_t>>{
           {0x01, 0x20}, {0x02, 0x10}, {0x04, 0x40}, {0x08, 0x80}}) {
    out(MCR, static_cast<uint8_t>(MCR_LOOP | mcr));
    EXPECT_EQ(in(MSR)&0xf0, msr);
    out(MCR, MCR_LOOP);
    EXPECT_EQ(in(MSR), msr >> 4) << "the delta of its end";
    EXPECT_EQ(in(MSR), 0) << "once";
  }
}

TEST_F(SerialTest, RingIsReportedAtItsEndOnly) {
  out(MCR, MCR_LOOP);
  in(MSR);
  out(MCR, MCR_LOOP | 0x04);
  EXPECT_EQ(in(MSR), 0x40);
  out(MCR, MCR_LOOP);
  EXPECT_EQ(in(MSR), 0x04);
}

TEST_F(SerialTest, ModemStatusInterruptsUntilItIsRead) {
  out(IER, IER_MSI);
  EXPECT_EQ(in(IIR), NO_INT);
  out(MCR, MCR_LOOP);
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(in(IIR), MSI);
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(in(MSR), 0x0b);
  EXPECT_FALSE(line_.level());
  EXPECT_EQ(in(IIR), NO_INT);
}

TEST_F(SerialTest, InterruptsComeInTheOrderOfTheirPriority) {
  enable_fifos(0x00);
  out(MCR, MCR_LOOP);
  out(MCR, 0);
  console_.send_break();
  out(IER, 0x0f);
  EXPECT_EQ(in(IIR), FIFOS | RLSI);
  in(LSR);
  EXPECT_EQ(in(IIR), FIFOS | RDI);
  in(RX);
  EXPECT_EQ(in(IIR), FIFOS | THRI);
  EXPECT_EQ(in(IIR), FIFOS | MSI);
  in(MSR);
  EXPECT_EQ(in(IIR), FIFOS | NO_INT);
  EXPECT_EQ(line_.edges(), 1);
  EXPECT_EQ(line_.sets(), 2);
}

// --- hostile accesses -------------------------------------------------------

TEST_F(SerialTest, AWideAccessIsOneToEachPortInTurn) {
  const std::array<std::byte, 2> divisor = {std::byte{0x34}, std::byte{0x12}};
  out(LCR, 0x80);
  serial_.write(DLL, divisor);
  EXPECT_EQ(serial_.state().divisor, 0x1234);
  out(LCR, 0);
  std::array<std::byte, 8> all{};
  serial_.read(0, all);
  EXPECT_EQ(all, (std::array{std::byte{0}, std::byte{0}, std::byte{NO_INT}, std::byte{0},
                             std::byte{0}, std::byte{LSR_IDLE}, std::byte{0xb0}, std::byte{0}}));
}

TEST_F(SerialTest, SurvivesEveryWidthAtEveryOffset) {
  for (uint64_t offset = 0; offset < 16; ++offset) {
    for (size_t size = 1; size <= 8; ++size) {
      std::array<std::byte, 8> data;
      for (const auto fill : {std::byte{0x00}, std::byte{0xff}, std::byte{0x5a}}) {
        data.fill(fill);
        serial_.write(offset, std::span(data).first(size));
        serial_.read(offset, std::span(data).first(size));
      }
    }
  }
  EXPECT_EQ(in(8), 0xff);
}

TEST_F(SerialTest, StatusRegistersCannotBeWritten) {
  out(LSR, 0);
  out(MSR, 0xff);
  EXPECT_EQ(in(LSR), LSR_IDLE);
  EXPECT_EQ(in(MSR), 0xb0);
}

// --- threads ----------------------------------------------------------------

TEST_F(SerialTest, AVcpuAndTheConsoleLoopMayUseItAtOnce) {
  constexpr size_t kBytes = 20'000;
  enable_fifos();
  out(IER, IER_RDI | IER_RLSI);
  std::atomic<bool> done = false;
  std::thread loop([&] {
    std::string text;
    for (size_t i = 0; i < kBytes; ++i) text += static_cast<char>('a' + i % 26);
    for (size_t sent = 0; sent < kBytes;) {
      const size_t taken = console_.type(std::string_view(text).substr(sent, 5));
      sent += taken;
      if (taken == 0) std::this_thread::yield();
    }
    done = true;
  });
  std::string got;
  while (!done || line_.level()) {
    while ((in(IIR)&NO_INT) == 0) {
      if ((in(LSR)&LSR_DR) != 0) {
        const uint8_t byte = in(RX);
        got += static_cast<char>(byte);
        out(TX, byte);
      }
    }
    std::this_thread::yield();
  }
  loop.join();
  EXPECT_EQ(got.size(), kBytes);
  EXPECT_EQ(console_.output(), got);
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], static_cast<char>('a' + i % 26)) << i;
}

}  // namespace
}  // namespace wick::devices
