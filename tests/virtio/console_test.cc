// Tests virtio-console through the MMIO registers and the rings, with the device on a loop
// of its own.
#include "virtio/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "tests/fakes/await_used.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_console.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fakes/wait_for.h"
#include "virtio/mmio.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::memory_of;
using fakes::MmioDriver;
using fakes::wait_for;

constexpr uint64_t kMultiport = 1ull << VIRTIO_CONSOLE_F_MULTIPORT;
constexpr uint32_t kConfigInterrupt = 2;

class ConsoleTest : public testing::Test {
 protected:
  enum Queue : uint16_t { kReceive, kTransmit, kControlReceive, kControlTransmit, kReceive1 = 4 };

  ConsoleTest() {
    memory_.emplace(memory_of(16 << 20));
    thread_ = LoopThread::start("console-test").value();
  }
  ~ConsoleTest() override {
    if (registers_) registers_->reset();
    thread_->stop();
  }

  // Makes a console and further ports with these names.
  void make(const std::vector<std::string>& names = {}) {
    std::vector<Console::PortConfig> ports;
    ports.push_back({.backend = host_});
    for (const std::string& name : names) ports.push_back({others_.emplace_back(), name});
    console_ = std::make_unique<Console>(thread_->loop(), std::move(ports));
    transport_ = MmioTransport::create(*console_, *memory_, line_, "console").value();
    registers_.emplace(*transport_);
  }
  void start(uint64_t without_features = 0) {
    drivers_.clear();
    constexpr uint64_t kNotHere = feature_bit(VIRTIO_RING_F_EVENT_IDX);
    ASSERT_EQ(regs().negotiate(regs().device_features() & ~kNotHere & ~without_features),
              MmioDriver::kFeaturesOk);
    for (uint32_t i = 0; i < console_->queue_max_sizes().size(); ++i) {
      drivers_.emplace_back(*memory_, FakeDriver::Options{.size = 16,
                                                          .base = {0x10000 + i * 0x200000ull},
                                                          .buffer_area_bytes = 0x180000});
      regs().set_queue(i, drivers_.back().layout());
    }
    regs().set_status(MmioDriver::kDriverOk);
    ASSERT_EQ(regs().status(), MmioDriver::kDriverOk);
  }

  const MmioDriver& regs() const { return *registers_; }
  FakeDriver& queue(uint16_t index) { return drivers_[index]; }
  void kick(uint16_t index) {
    if (queue(index).kick_wanted()) regs().kick(index);
  }
  FakeDriver::Used take_used(uint16_t index) { return fakes::await_used(queue(index)); }
  size_t type(fakes::FakeConsole& host, std::string_view text) {
    size_t taken = 0;
    thread_->loop().call([&] { taken = host.type(text); });
    return taken;
  }
  size_t type(std::string_view text) { return type(host_, text); }
  void resize(console::Size size) {
    thread_->loop().call([&] { host_.resize(size); });
  }
  void settle() {
    for (int i = 0; i < 10; ++i) thread_->loop().call([] {});
  }
  static std::string text(const FakeDriver::Request& request, size_t size_bytes) {
    std::string all;
    for (const auto& buffer : request.writable)
      all.append(reinterpret_cast<const char*>(buffer.data()), buffer.size());
    return all.substr(0, size_bytes);
  }

  // --- multiport ---

  void send_control(uint32_t port, uint16_t event, uint16_t value) {
    const virtio_console_control control{.id = port, .event = event, .value = value};
    (void)queue(kControlTransmit).chain().readable(as_bytes(&control, sizeof(control))).publish();
    kick(kControlTransmit);
    (void)take_used(kControlTransmit);
  }
  // Returns the device's next control message: "port:event:value" and the payload.
  std::string receive_control() {
    const auto request = queue(kControlReceive).chain().writable(64).publish();
    kick(kControlReceive);
    const auto used = take_used(kControlReceive);
    virtio_console_control control{};
    if (used.head != request.head || used.written_bytes < sizeof(control)) return "nothing";
    const std::string bytes = text(request, used.written_bytes);
    std::memcpy(&control, bytes.data(), sizeof(control));
    return fmt::format("{}:{}:{}{}", static_cast<uint32_t>(control.id),
                       static_cast<uint16_t>(control.event), static_cast<uint16_t>(control.value),
                       bytes.substr(sizeof(control)));
  }

  fakes::FakeConsole host_;
  std::deque<fakes::FakeConsole> others_;
  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  std::deque<FakeDriver> drivers_;
  fakes::CountingLine line_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
};

// --- output ---

TEST_F(ConsoleTest, PassesOnWhatTheGuestWrites) {
  make();
  start();
  const auto request = queue(kTransmit).chain().readable("login").readable(": ").publish();
  kick(kTransmit);
  EXPECT_EQ(take_used(kTransmit), (FakeDriver::Used{request.head, 0}));
  EXPECT_EQ(host_.output(), "login: ");
}

TEST_F(ConsoleTest, PassesOnAChainOfAnyLength) {
  make();
  start();
  std::string sent;
  for (int i = 0; sent.size() < 1'000'000; ++i) sent += fmt::format("line {}\r\n", i);
  (void)queue(kTransmit).chain().readable(sent).readable("!").publish();
  const auto after = queue(kTransmit).chain().readable("after").publish();
  kick(kTransmit);
  (void)take_used(kTransmit);
  EXPECT_EQ(take_used(kTransmit).head, after.head);
  EXPECT_EQ(host_.output(), sent + "!after");
}

TEST_F(ConsoleTest, GivesBackChainsWithNothingToSend) {
  make();
  start();
  (void)queue(kTransmit).chain().writable(100).publish();
  (void)queue(kTransmit).chain().readable("").publish();
  (void)queue(kTransmit).chain().readable("x").publish();
  kick(kTransmit);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(take_used(kTransmit).written_bytes, 0u);
  EXPECT_EQ(host_.output(), "x");
}

TEST_F(ConsoleTest, LeavesTheLoopToOthersWhenTheGuestNeverStopsWriting) {
  make();
  start();
  for (int i = 0; i < 16; ++i)
    (void)queue(kTransmit).chain().readable_at({0x200000}, 0x100000).publish();
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    while (!stop)
      if (const auto used = queue(kTransmit).take_used())
        queue(kTransmit).make_available(static_cast<uint16_t>(used->head));
  });
  regs().kick(kTransmit);
  settle();
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
  stop = true;
  guest.join();
}

// --- input ---

TEST_F(ConsoleTest, PutsWhatIsTypedIntoTheGuestsBuffers) {
  make();
  start();
  const auto first = queue(kReceive).chain().writable(3).publish();
  const auto second = queue(kReceive).chain().writable(1).writable(100).publish();
  kick(kReceive);
  EXPECT_EQ(type("root\n"), 5u);
  EXPECT_EQ(take_used(kReceive), (FakeDriver::Used{first.head, 3}));
  EXPECT_EQ(take_used(kReceive), (FakeDriver::Used{second.head, 2}));
  EXPECT_EQ(text(first, 3) + text(second, 2), "root\n");
  EXPECT_GE(line_.pulses(), 1);
}

TEST_F(ConsoleTest, TakesOnlyWhatFitsAndAsksForTheRest) {
  make();
  EXPECT_EQ(type("early"), 0u);  // no driver yet
  start();
  EXPECT_EQ(host_.times_wanted(), 1);
  EXPECT_EQ(type("early"), 0u);  // no buffers yet
  (void)queue(kReceive).chain().writable(3).publish();
  kick(kReceive);
  EXPECT_TRUE(wait_for([&] { return host_.times_wanted() == 2; }));
  EXPECT_EQ(type("early"), 3u);
  settle();
  EXPECT_EQ(host_.times_wanted(), 2);
}

TEST_F(ConsoleTest, DoesNotAskForInputThatNobodyHas) {
  make();
  start();
  for (int i = 0; i < 8; ++i) (void)queue(kReceive).chain().writable(64).publish();
  kick(kReceive);
  EXPECT_EQ(type("x"), 1u);
  settle();
  EXPECT_EQ(host_.times_wanted(), 0);
}

TEST_F(ConsoleTest, GivesBackBuffersWithoutRoom) {
  make();
  start();
  (void)queue(kReceive).chain().readable("read-only").publish();
  (void)queue(kReceive).chain().writable(0).publish();
  const auto good = queue(kReceive).chain().writable(10).publish();
  kick(kReceive);
  EXPECT_EQ(type("abc"), 3u);
  EXPECT_EQ(take_used(kReceive).written_bytes, 0u);
  EXPECT_EQ(take_used(kReceive).written_bytes, 0u);
  EXPECT_EQ(take_used(kReceive), (FakeDriver::Used{good.head, 3}));
}

TEST_F(ConsoleTest, AsksForAResetWhenARingIsBroken) {
  for (const Queue broken : {kReceive, kTransmit}) {
    make();
    start();
    queue(broken).set_available_index(1000);
    regs().kick(broken);
    (void)type("x");  // makes the device process the receive queue; a kick does not
    EXPECT_TRUE(wait_for([&] { return (regs().status() & MmioDriver::kNeedsReset) != 0; }));
    EXPECT_EQ(type("more"), 0u);
    start();  // the device works again
    (void)queue(kTransmit).chain().readable("again").publish();
    kick(kTransmit);
    (void)take_used(kTransmit);
    regs().reset();
  }
}

TEST_F(ConsoleTest, TouchesNoBufferAfterReset) {
  make();
  start();
  const auto request = queue(kReceive).chain().writable(16).publish();
  const auto next = queue(kReceive).chain().writable(16).publish();
  kick(kReceive);
  EXPECT_EQ(type("held"), 4u);  // the device also keeps the next buffer
  regs().reset();
  EXPECT_EQ(type("late"), 0u);
  EXPECT_EQ(text(request, 4), "held");
  EXPECT_EQ(next.writable[0][0], std::byte{0xee});
}

// --- size ---

TEST_F(ConsoleTest, TellsTheTerminalsSize) {
  make();
  resize({.columns = 81, .rows = 25});
  start();
  EXPECT_EQ(regs().config(0, 2), 81u);
  EXPECT_EQ(regs().config(2, 2), 25u);
  EXPECT_EQ(regs().config(4, 4), 1u);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), kConfigInterrupt)
      << "or Linux does not look";
  regs().write(MmioDriver::kInterruptAck, kConfigInterrupt);
  resize({.columns = 132, .rows = 43});
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), kConfigInterrupt);
  EXPECT_EQ(regs().config(0, 4), 132u | 43u << 16);
}

TEST_F(ConsoleTest, HasA80x24TerminalWhereNobodyKnowsTheSize) {
  constexpr uint32_t kDefault = 80u | 24u << 16;
  make();
  EXPECT_EQ(regs().config(0, 4), kDefault) << "no terminal";
  start();
  EXPECT_EQ(regs().config(0, 4), kDefault);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), kConfigInterrupt)
      << "or Linux does not look";
  resize({.columns = 0, .rows = 0});
  EXPECT_EQ(regs().config(0, 4), kDefault) << "a terminal that says 0";
  resize({.columns = 132, .rows = 43});
  EXPECT_EQ(regs().config(0, 4), 132u | 43u << 16);
}

TEST_F(ConsoleTest, DoesNotTellTheSizeToADriverThatDidNotAsk) {
  make();
  start(1ull << VIRTIO_CONSOLE_F_SIZE);
  resize({.columns = 132, .rows = 43});
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus) & kConfigInterrupt, 0u);
}

TEST_F(ConsoleTest, ReadsZeroPastItsConfiguration) {
  make();
  for (const uint64_t offset : {uint64_t{12}, uint64_t{0xef8}})
    for (const size_t width : {1u, 2u, 4u, 8u}) EXPECT_EQ(regs().config(offset, width), 0u);
  const uint64_t size = regs().config(0, 4);
  regs().write(MmioDriver::kConfig, ~0u);
  EXPECT_EQ(regs().config(0, 4), size);
}

// --- several ports ---

TEST_F(ConsoleTest, IsPlainWithOnePort) {
  make();
  EXPECT_EQ(regs().device_features() & kMultiport, 0u);
  EXPECT_EQ(console_->queue_max_sizes().size(), 2u);
}

TEST_F(ConsoleTest, IntroducesItsPorts) {
  make({"org.wick.agent", ""});
  resize({.columns = 0x3141, .rows = 0x3242});
  start();
  EXPECT_EQ(regs().config(4, 4), 3u);
  send_control(~0u, VIRTIO_CONSOLE_DEVICE_READY, 1);
  EXPECT_EQ(receive_control(), "0:1:1");
  EXPECT_EQ(receive_control(), "1:1:1");
  EXPECT_EQ(receive_control(), "2:1:1");
  send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
  EXPECT_EQ(receive_control(), "0:4:1");
  EXPECT_EQ(receive_control(), "0:6:1");
  EXPECT_EQ(receive_control(), "0:5:1A1B2");  // columns, then rows
  send_control(1, VIRTIO_CONSOLE_PORT_READY, 1);
  EXPECT_EQ(receive_control(), "1:7:1org.wick.agent");
  EXPECT_EQ(receive_control(), "1:6:1");
  resize({.columns = 0x3343, .rows = 0x3444});
  EXPECT_EQ(receive_control(), "0:5:1C3D4");
}

TEST_F(ConsoleTest, SendsAndReceivesOnEachPort) {
  make({"agent"});
  start();
  send_control(1, VIRTIO_CONSOLE_PORT_READY, 1);
  (void)queue(kReceive1).chain().writable(10).publish();
  kick(kReceive1);
  EXPECT_EQ(type(others_[0], "closed"), 0u);
  send_control(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
  EXPECT_EQ(others_[0].times_wanted(), 1);
  EXPECT_EQ(type(others_[0], "ping"), 4u);
  EXPECT_EQ(take_used(kReceive1).written_bytes, 4u);
  (void)queue(kReceive1 + 1).chain().readable("pong").publish();
  kick(kReceive1 + 1);
  (void)take_used(kReceive1 + 1);
  EXPECT_EQ(others_[0].output(), "pong");
  EXPECT_EQ(host_.output(), "");
}

TEST_F(ConsoleTest, WorksForADriverWithoutMultiport) {
  make({"agent"});
  start(kMultiport);
  (void)queue(kReceive).chain().writable(10).publish();
  kick(kReceive);
  EXPECT_EQ(type("root"), 4u);
  (void)queue(kTransmit).chain().readable("hello").publish();
  kick(kTransmit);
  (void)take_used(kTransmit);
  EXPECT_EQ(host_.output(), "hello");
}

TEST_F(ConsoleTest, SurvivesNonsenseOnTheControlQueue) {
  make({"agent"});
  start();
  for (const uint32_t port : {0u, 1u, 2u, 0x7fffffffu, ~0u})
    for (uint16_t event = 0; event < 10; ++event)
      for (const auto value : std::to_array<uint16_t>({0, 1, 0xffff}))
        send_control(port, event, value);
  (void)queue(kControlTransmit).chain().readable("short").publish();
  (void)queue(kControlTransmit).chain().writable(8).publish();
  kick(kControlTransmit);
  (void)take_used(kControlTransmit);
  (void)take_used(kControlTransmit);
  // Each kind of event is pending only once, however often the driver requested it.
  int received = 0;
  for (; received < 20; ++received) {
    const auto request = queue(kControlReceive).chain().writable(1).publish();  // too short, too
    kick(kControlReceive);
    settle();
    if (!queue(kControlReceive).take_used()) break;
    EXPECT_NE(request.writable[0][0], std::byte{0xee});
  }
  EXPECT_EQ(received, 6);
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(ConsoleTest, ANewDriverIsToldEverythingAgain) {
  make({"agent"});
  start();
  send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
  start();
  send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
  EXPECT_EQ(receive_control(), "0:4:1");
  EXPECT_EQ(type("x"), 0u);  // not open yet
}

}  // namespace
}  // namespace wick::virtio
