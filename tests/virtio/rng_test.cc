// Tests virtio-rng through the MMIO registers and the ring, with the device on a loop of
// its own.
#include "virtio/rng.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/fakes/await_used.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"
#include "virtio/mmio.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::memory_of;
using fakes::MmioDriver;
using fakes::wait_for;
using ::testing::HasSubstr;

class RngTest : public testing::Test {
 protected:
  RngTest() {
    memory_.emplace(memory_of(8 << 20));
    thread_ = LoopThread::start("rng-test").value();
    driver_.emplace(*memory_, FakeDriver::Options{.size = 64});
  }
  ~RngTest() override {
    if (registers_) registers_->reset();
    thread_->stop();
  }

  std::string path(const std::string& name) const { return folder_ / name; }

  void start(const std::string& source = "") {
    rng_ = Rng::create(thread_->loop(), source).value();
    transport_ = MmioTransport::create(*rng_, *memory_, line_, "rng").value();
    registers_.emplace(*transport_);
    ASSERT_TRUE(registers_->start(driver_->layout()));
  }
  void kick() {
    if (driver_->kick_wanted()) registers_->kick(0);
  }
  FakeDriver::Used take_used() { return fakes::await_used(*driver_); }

  const fakes::TempDir folder_;
  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  std::optional<FakeDriver> driver_;
  fakes::CountingLine line_;
  std::unique_ptr<Rng> rng_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
};

size_t different_values(std::span<const std::byte> bytes) {
  return std::set(bytes.begin(), bytes.end()).size();
}

TEST_F(RngTest, FillsABufferWithRandomBytes) {
  start();
  const auto request = driver_->chain().writable(4096).publish();
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{request.head, 4096}));
  EXPECT_GT(different_values(request.writable[0]), 200u);
  EXPECT_TRUE(wait_for([&] { return line_.pulses() == 1; }));
}

TEST_F(RngTest, FillsAChainOfBuffers) {
  start();
  const auto request = driver_->chain().writable(100).writable(0).writable(1000).publish();
  kick();
  EXPECT_EQ(take_used().written_bytes, 1100u);
  EXPECT_GT(different_values(request.writable[0]), 20u);
  EXPECT_GT(different_values(request.writable[2]), 200u);
}

TEST_F(RngTest, NeverClaimsMoreThanItWrote) {
  start();
  const auto request = driver_->chain().writable(512 << 10).publish();
  kick();
  const uint32_t written = take_used().written_bytes;
  EXPECT_GE(written, 1u);
  const auto rest = request.writable[0].subspan(written);
  EXPECT_TRUE(std::ranges::all_of(rest, [](std::byte b) { return b == std::byte{0xee}; }));
}

TEST_F(RngTest, GivesBackRequestsWithoutRoom) {
  start();
  (void)driver_->chain().readable("no room at all").publish();
  (void)driver_->chain().writable(0).publish();
  const auto good = driver_->chain().writable(16).publish();
  kick();
  EXPECT_EQ(take_used().written_bytes, 0u);
  EXPECT_EQ(take_used().written_bytes, 0u);
  EXPECT_EQ(take_used(), (FakeDriver::Used{good.head, 16}));
}

TEST_F(RngTest, AsksForAResetWhenTheRingIsBroken) {
  start();
  driver_->set_available_index(1000);
  registers_->kick(0);
  EXPECT_TRUE(wait_for([&] { return (registers_->status() & MmioDriver::kNeedsReset) != 0; }));
  registers_->reset();
  driver_->forget();
  ASSERT_TRUE(registers_->start(driver_->layout()));
  (void)driver_->chain().writable(16).publish();
  kick();
  EXPECT_EQ(take_used().written_bytes, 16u);
}

// The ring is never empty: the driver publishes each completed request again.
TEST_F(RngTest, LeavesTheLoopToOthersWhenADriverNeverStops) {
  start();
  for (int i = 0; i < 64; ++i) (void)driver_->chain().writable_at({0x100000}, 1 << 20).publish();
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    while (!stop)
      if (const auto used = driver_->take_used())
        driver_->make_available(static_cast<uint16_t>(used->head));
  });
  registers_->kick(0);
  for (int i = 0; i < 20; ++i) {
    bool ran = false;
    thread_->loop().call([&] { ran = true; });
    EXPECT_TRUE(ran);
  }
  registers_->reset();  // completes too
  EXPECT_EQ(registers_->status(), 0u);
  stop = true;
  guest.join();
}

TEST_F(RngTest, ALoopThatIsToStopStopsAlthoughADriverNeverDoes) {
  start();
  for (int i = 0; i < 64; ++i) (void)driver_->chain().writable_at({0x100000}, 1 << 20).publish();
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    while (!stop)
      if (const auto used = driver_->take_used())
        driver_->make_available(static_cast<uint16_t>(used->head));
  });
  registers_->kick(0);
  thread_->stop();
  stop = true;
  guest.join();
}

// Each reset posts to the loop and waits for it.
TEST_F(RngTest, ALoopThatIsToStopStopsAlthoughDriversResetWithoutEnd) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::atomic<bool> stop = false;
  std::atomic<int> resets = 0;
  start();
  // These threads act as vCPUs whose devices share the main loop.
  struct Other {
    std::unique_ptr<Rng> rng;
    std::unique_ptr<MmioTransport> transport;
    std::jthread guest;
  };
  std::vector<Other> others(16);
  for (Other& other : others) {
    other.rng = Rng::create(thread_->loop(), "").value();
    other.transport = MmioTransport::create(*other.rng, *memory_, line_, "rng").value();
    other.guest = std::jthread([&] {
      const MmioDriver registers(*other.transport);
      while (!stop && std::chrono::steady_clock::now() < give_up) {
        registers.set_status(1);
        registers.set_status(0);
        ++resets;
      }
    });
  }
  EXPECT_TRUE(wait_for([&] { return resets > 100; }));
  thread_->stop();
  EXPECT_LT(std::chrono::steady_clock::now(), give_up);
  const int before = resets;
  EXPECT_TRUE(wait_for([&] { return resets > before + 100; })) << "a vCPU waits for ever";
  stop = true;
}

TEST_F(RngTest, ReadsAFile) {
  const std::string text(3000, 'r');
  folder_.write("entropy", text);
  start(path("entropy"));
  const auto request = driver_->chain().writable(1000).publish();
  kick();
  EXPECT_EQ(take_used().written_bytes, 1000u);
  EXPECT_EQ(std::memcmp(request.writable[0].data(), text.data(), 1000), 0);
}

TEST_F(RngTest, GoesOnWithGetrandomWhereAFileEnds) {
  folder_.write("entropy", "short");
  start(path("entropy"));
  const auto first = driver_->chain().writable(1000).publish();
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{first.head, 5}));
  const auto second = driver_->chain().writable(1000).publish();
  kick();
  EXPECT_EQ(take_used(), (FakeDriver::Used{second.head, 1000}));
  EXPECT_GT(different_values(second.writable[0]), 200u);
}

TEST_F(RngTest, WaitsForASourceThatHasNothingNow) {
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  const Fd writer(::open(path("fifo").c_str(), O_RDWR | O_CLOEXEC));
  start(path("fifo"));
  const auto request = driver_->chain().writable(8).publish();
  kick();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_FALSE(driver_->take_used());
  ASSERT_EQ(::write(writer.get(), "dice", 4), 4);
  EXPECT_EQ(take_used(), (FakeDriver::Used{request.head, 4}));
  EXPECT_EQ(std::memcmp(request.writable[0].data(), "dice", 4), 0);
}

TEST_F(RngTest, ResetForgetsARequestThatWaits) {
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  const Fd writer(::open(path("fifo").c_str(), O_RDWR | O_CLOEXEC));
  start(path("fifo"));
  const auto request = driver_->chain().writable(8).publish();
  kick();
  thread_->loop().call([] {});
  registers_->reset();
  ASSERT_EQ(::write(writer.get(), "dice", 4), 4);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(request.writable[0][0], std::byte{0xee});
}

TEST_F(RngTest, RefusesASourceThatCannotBeRead) {
  for (const std::string& source : {path("missing"), folder_.path()}) {
    const auto rng = Rng::create(thread_->loop(), source);
    ASSERT_FALSE(rng);
    EXPECT_THAT(rng.error().message(), HasSubstr(source));
  }
}

}  // namespace
}  // namespace wick::virtio
