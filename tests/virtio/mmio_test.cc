// The virtio-mmio registers and the state machine behind them (transport.h),
// as a driver sees them, with a device that only remembers what it was told.
#include "virtio/mmio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <thread>
#include <vector>

#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/mmio_driver.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::MmioDriver;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr uint64_t kDeviceFeature = 1ull << 9;
constexpr uint64_t kAlwaysOffered = kFeatureVersion1 | kFeatureIndirect | kFeatureEventIndex;

GuestMemory make_memory() {
  const std::array ranges = {GuestMemory::Range{{0}, kRamBytes}};
  return GuestMemory::create(ranges).value();
}

class RememberingDevice final : public VirtioDevice {
 public:
  uint32_t id() const override { return 42; }
  uint64_t features() const override { return kDeviceFeature; }
  std::span<const uint16_t> queue_max_sizes() const override { return kSizes; }
  void read_config(uint64_t offset, std::span<std::byte> data) override {
    std::ranges::fill(data, std::byte{0});
    for (size_t i = 0; i < data.size() && offset + i < config.size(); ++i)
      data[i] = config[offset + i];
  }
  void write_config(uint64_t offset, std::span<const std::byte> data) override {
    for (size_t i = 0; i < data.size() && offset + i < config.size(); ++i)
      config[offset + i] = data[i];
  }
  void activate(uint64_t accepted, std::vector<ActiveQueue> moved_in,
                DriverNotifier& to_driver) override {
    ++activations;
    features_accepted = accepted;
    for (const ActiveQueue& queue : moved_in) queue_indices.push_back(queue.index);
    notifier = &to_driver;
  }
  void reset() override {
    ++resets;
    queue_indices.clear();
    notifier = nullptr;
  }

  static constexpr std::array<uint16_t, 2> kSizes = {64, 16};
  std::array<std::byte, 6> config{};
  int activations = 0;
  int resets = 0;
  uint64_t features_accepted = 0;
  std::vector<uint16_t> queue_indices;
  DriverNotifier* notifier = nullptr;
};

class MmioTest : public testing::Test {
 protected:
  MmioTest() : memory_(make_memory()) {
    transport_ = MmioTransport::create(device_, memory_, line_, "test").value();
    registers_.emplace(*transport_);
  }

  const MmioDriver& regs() const { return *registers_; }
  QueueLayout layout() const { return driver_.layout(); }

  // Accepted by the device, waiting for its queues.
  void negotiate() { ASSERT_EQ(regs().negotiate(kFeatureVersion1), MmioDriver::kFeaturesOk); }
  void start() {
    negotiate();
    regs().set_queue(0, layout());
    regs().set_status(MmioDriver::kDriverOk);
    ASSERT_EQ(regs().status(), MmioDriver::kDriverOk);
    ASSERT_EQ(device_.activations, 1);
  }
  // DRIVER_OK with this queue 0 must end in DEVICE_NEEDS_RESET, with the device
  // untouched.
  void expect_unusable(const QueueLayout& bad) {
    device_.activations = 0;
    negotiate();
    regs().set_queue(0, bad);
    regs().set_status(MmioDriver::kDriverOk);
    EXPECT_EQ(regs().status(), MmioDriver::kDriverOk | MmioDriver::kNeedsReset);
    EXPECT_EQ(device_.activations, 0);
    // 2.1.2: the driver hears of it by a configuration change.
    EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 2u);
  }

  GuestMemory memory_;
  FakeDriver driver_{memory_, {.size = 16}};
  RememberingDevice device_;
  fakes::CountingLine line_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
};

// --- identity, widths, holes ---

TEST_F(MmioTest, NamesItsRegistersAsTheSpecificationDoes) {
  EXPECT_EQ(transport_->name_of(0x50, true).reg, "QueueNotify");
  EXPECT_EQ(transport_->name_of(0x70, false).reg, "Status");
  EXPECT_EQ(transport_->name_of(0x104, false).reg, "config");
  EXPECT_EQ(transport_->name_of(0x0c0, false).reg, "");
}

TEST_F(MmioTest, IntroducesItself) {
  EXPECT_EQ(regs().read(MmioDriver::kMagic), 0x74726976u);
  EXPECT_EQ(regs().read(MmioDriver::kVersion), 2u);
  EXPECT_EQ(regs().read(MmioDriver::kDeviceId), 42u);
  EXPECT_EQ(regs().device_features(), kDeviceFeature | kAlwaysOffered);
  EXPECT_EQ(regs().status(), 0u);
}

TEST_F(MmioTest, OffersNoFeaturesBeyondSixtyFourBits) {
  for (const uint32_t word : {2u, 3u, 32u, 0xffffffffu}) {
    regs().write(MmioDriver::kDeviceFeaturesSel, word);
    EXPECT_EQ(regs().read(MmioDriver::kDeviceFeatures), 0u) << word;
  }
}

TEST_F(MmioTest, HasNoSharedMemory) {
  for (const uint64_t offset : std::to_array<uint64_t>({0xb0, 0xb4, 0xb8, 0xbc}))
    EXPECT_EQ(regs().read(offset), 0xffffffffu) << offset;
}

// 4.2.2.2: below the configuration space, aligned 32-bit accesses only.
TEST_F(MmioTest, AnswersOnlyAlignedWordsBelowTheConfigurationSpace) {
  for (const size_t width : {1u, 2u, 4u, 8u}) {
    for (uint64_t offset = 0; offset < MmioDriver::kConfig; ++offset) {
      std::array<std::byte, 8> data;
      data.fill(std::byte{0xaa});
      transport_->read(offset, std::span(data).first(width));
      if (width != 4 || offset % 4 != 0) {
        EXPECT_EQ(load_le<uint64_t>(std::span(data).first(width)), 0u) << offset << " by " << width;
      }
      // Nothing is written past the access.
      for (size_t i = width; i < data.size(); ++i) ASSERT_EQ(data[i], std::byte{0xaa});
    }
  }
}

TEST_F(MmioTest, IgnoresWritesOfOddWidthOrPlace) {
  constexpr uint64_t kOnes = ~0ull;
  for (const size_t width : {1u, 2u, 4u, 8u})
    for (uint64_t offset = 0; offset < MmioDriver::kConfig; ++offset)
      if (width != 4 || offset % 4 != 0) transport_->write(offset, as_bytes(&kOnes, width));
  EXPECT_EQ(regs().status(), 0u);
  EXPECT_EQ(device_.activations, 0);
  regs().write(MmioDriver::kDeviceFeaturesSel, 0);
  transport_->write(MmioDriver::kDeviceFeaturesSel, as_bytes(&kOnes, 1));
  EXPECT_NE(regs().read(MmioDriver::kDeviceFeatures), 0u);
}

TEST_F(MmioTest, SurvivesEveryRegisterInEveryState) {
  const auto stages = std::to_array<uint32_t>({0, 1, 3, 11, 15});
  for (const uint32_t stage : stages) {
    for (const uint32_t value : {0u, 1u, 2u, 0x7fffffffu, 0xffffffffu}) {
      for (uint64_t offset = 0; offset < 0x200; offset += 4) {
        regs().reset();
        for (const uint32_t step : stages)
          if (step != 0 && step <= stage) regs().set_status(step);
        regs().write(offset, value);
        for (uint64_t look = 0; look < 0x200; look += 4) (void)regs().read(look);
      }
    }
  }
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
}

TEST_F(MmioTest, PassesConfigurationAccessesOfAnyWidth) {
  const uint64_t value = 0x8877665544332211;
  transport_->write(MmioDriver::kConfig, as_bytes(&value, 4));
  transport_->write(MmioDriver::kConfig + 4, as_bytes(&value, 1));
  EXPECT_EQ(regs().config(0, 8), 0x1144332211u);
  EXPECT_EQ(regs().config(1, 2), 0x3322u);
  EXPECT_EQ(regs().config(3, 4), 0x1144u);
}

TEST_F(MmioTest, ReadsZeroPastTheConfigurationSpace) {
  const uint64_t ones = ~0ull;
  for (const uint64_t offset : {6u, 7u, 100u, 0xef8u})
    transport_->write(MmioDriver::kConfig + offset, as_bytes(&ones, 8));
  transport_->write(MmioDriver::kConfig + 5, as_bytes(&ones, 8));
  EXPECT_EQ(regs().config(6, 8), 0u);
  EXPECT_EQ(regs().config(0xef8, 8), 0u);
  EXPECT_EQ(regs().config(5, 4), 0xffu);
}

// --- the status table (3.1.1) ---

TEST_F(MmioTest, TakesTheStepsInTheirOrder) {
  for (const uint32_t step :
       std::to_array<uint32_t>({MmioDriver::kAcknowledged, MmioDriver::kDriver})) {
    regs().set_status(step);
    EXPECT_EQ(regs().status(), step);
  }
  regs().set_driver_features(kFeatureVersion1 | kDeviceFeature);
  regs().set_status(MmioDriver::kFeaturesOk);
  EXPECT_EQ(regs().status(), MmioDriver::kFeaturesOk);
  EXPECT_EQ(device_.activations, 0);
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
  EXPECT_EQ(device_.activations, 1);
  EXPECT_EQ(device_.features_accepted, kFeatureVersion1 | kDeviceFeature);
}

// Every byte in every state: what comes out is a state of the table, and the
// device is active exactly in the last one.
TEST_F(MmioTest, NeverEntersAStateOutsideTheTable) {
  const auto states = std::to_array<uint32_t>({0, 1, 3, 11, 15});
  for (const uint32_t state : states) {
    for (uint32_t value = 0; value < 256; ++value) {
      regs().reset();
      device_.activations = 0;
      for (const uint32_t step : states) {
        if (step == 0 || step > state) continue;
        if (step == MmioDriver::kFeaturesOk) regs().set_driver_features(kFeatureVersion1);
        regs().set_status(step);
      }
      if (state == MmioDriver::kDriver) regs().set_driver_features(kFeatureVersion1);
      ASSERT_EQ(regs().status(), state);
      regs().set_status(value);

      const uint32_t now = regs().status();
      const uint32_t without_failed = now & ~uint32_t{kStatusFailed};
      EXPECT_THAT(states, testing::Contains(without_failed)) << state << " then " << value;
      EXPECT_EQ(device_.activations, ((state | now) & kStatusDriverOk) != 0 ? 1 : 0);
      // Only a reset clears a bit (2.1.1), and only the driver's own are set.
      EXPECT_TRUE(value == 0 || (state & ~now) == 0) << state << " then " << value;
      EXPECT_EQ(now & ~(state | value), 0u) << state << " then " << value;
    }
  }
}

TEST_F(MmioTest, IgnoresStepsOutOfOrder) {
  for (const uint32_t value : {2u, 4u, 8u, 5u, 9u, 12u, 6u, 14u}) {
    regs().reset();
    regs().set_status(value);
    EXPECT_EQ(regs().status() & ~value, 0u);
    EXPECT_EQ(regs().status() & kStatusDriverOk, 0u) << value;
    EXPECT_EQ(device_.activations, 0);
  }
}

TEST_F(MmioTest, ActivatesOnce) {
  start();
  regs().set_status(MmioDriver::kDriverOk);
  regs().set_status(MmioDriver::kFeaturesOk);
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_EQ(device_.activations, 1);
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(MmioTest, StaysFailedUntilReset) {
  regs().set_status(MmioDriver::kAcknowledged);
  regs().set_status(MmioDriver::kAcknowledged | kStatusFailed);
  EXPECT_EQ(regs().status(), MmioDriver::kAcknowledged | kStatusFailed);
  regs().set_status(MmioDriver::kDriver | kStatusFailed);
  EXPECT_EQ(regs().status(), MmioDriver::kAcknowledged | kStatusFailed);
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
}

TEST_F(MmioTest, IgnoresANeedsResetThatTheDriverWrites) {
  regs().set_status(MmioDriver::kAcknowledged | kStatusNeedsReset);
  EXPECT_EQ(regs().status(), MmioDriver::kAcknowledged);
}

// --- features (2.2, 6.1) ---

TEST_F(MmioTest, RefusesFeaturesThatWereNotOffered) {
  for (unsigned bit = 0; bit < 64; ++bit) {
    const uint64_t feature = 1ull << bit;
    const bool offered = ((kDeviceFeature | kAlwaysOffered) & feature) != 0;
    EXPECT_EQ(regs().negotiate(kFeatureVersion1 | feature),
              offered ? MmioDriver::kFeaturesOk : MmioDriver::kDriver)
        << "bit " << bit;
  }
}

TEST_F(MmioTest, RefusesADriverWithoutVersionOne) {
  EXPECT_EQ(regs().negotiate(0), MmioDriver::kDriver);
  EXPECT_EQ(regs().negotiate(kDeviceFeature | kFeatureIndirect), MmioDriver::kDriver);
}

TEST_F(MmioTest, LetsTheDriverAskForLessAfterARefusal) {
  EXPECT_EQ(regs().negotiate(~0ull), MmioDriver::kDriver);
  regs().set_driver_features(kFeatureVersion1);
  regs().set_status(MmioDriver::kFeaturesOk);
  EXPECT_EQ(regs().status(), MmioDriver::kFeaturesOk);
}

TEST_F(MmioTest, IgnoresFeaturesChangedAfterFeaturesOk) {
  negotiate();
  regs().set_driver_features(kFeatureVersion1 | kFeatureIndirect | kDeviceFeature | 1ull << 63);
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_EQ(device_.features_accepted, kFeatureVersion1);
}

TEST_F(MmioTest, IgnoresFeatureWordsBeyondSixtyFourBits) {
  regs().set_driver_features(kFeatureVersion1);
  regs().write(MmioDriver::kDriverFeaturesSel, 2);
  regs().write(MmioDriver::kDriverFeatures, 0xffffffff);
  regs().set_status(MmioDriver::kFeaturesOk);
  EXPECT_EQ(regs().status(), MmioDriver::kFeaturesOk);
}

// --- queues (4.2.2, 4.2.3.2) ---

TEST_F(MmioTest, TellsTheSizeOfEachQueue) {
  regs().write(MmioDriver::kQueueSel, 0);
  EXPECT_EQ(regs().read(MmioDriver::kQueueNumMax), 64u);
  regs().write(MmioDriver::kQueueSel, 1);
  EXPECT_EQ(regs().read(MmioDriver::kQueueNumMax), 16u);
}

TEST_F(MmioTest, HasNoQueueBeyondTheLast) {
  negotiate();
  for (const uint32_t index : {2u, 3u, 0xffffu, 0x10000u, 0xffffffffu}) {
    regs().write(MmioDriver::kQueueSel, index);
    EXPECT_EQ(regs().read(MmioDriver::kQueueNumMax), 0u);
    regs().set_queue(index, layout());
    EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 0u);
  }
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_TRUE(device_.queue_indices.empty());
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(MmioTest, MovesInExactlyTheReadyQueues) {
  negotiate();
  regs().set_queue(1, layout());
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(1));
}

TEST_F(MmioTest, LetsTheDriverTakeAQueueBackBeforeDriverOk) {
  negotiate();
  regs().set_queue(0, layout());
  EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 1u);
  regs().write(MmioDriver::kQueueReady, 0);
  EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 0u);
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_TRUE(device_.queue_indices.empty());
}

TEST_F(MmioTest, IgnoresQueueRegistersBeforeFeaturesOk) {
  regs().set_status(MmioDriver::kAcknowledged);
  regs().set_status(MmioDriver::kDriver);
  regs().set_queue(0, layout());
  EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 0u);
}

TEST_F(MmioTest, IgnoresChangesToAReadyQueue) {
  negotiate();
  regs().set_queue(0, layout());
  QueueLayout wild = layout();
  wild.size = 3;
  wild.descriptors = {~0ull};
  wild.driver_area = {~0ull};
  wild.device_area = {~0ull};
  regs().set_queue(0, wild);  // also enables it twice
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
}

TEST_F(MmioTest, IgnoresQueueRegistersAfterDriverOk) {
  start();
  regs().set_queue(1, layout());
  regs().write(MmioDriver::kQueueSel, 1);
  EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 0u);
  regs().write(MmioDriver::kQueueSel, 0);
  regs().write(MmioDriver::kQueueReady, 0);
  EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 1u);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(MmioTest, NeedsResetForAQueueOfAnImpossibleSize) {
  for (const uint32_t size : {0u, 3u, 17u, 128u, 1024u, 2048u, 0x10000u, 0x10010u, 0xffffffffu}) {
    device_.activations = 0;
    negotiate();
    regs().set_queue(0, layout());
    regs().write(MmioDriver::kQueueReady, 0);
    regs().write(MmioDriver::kQueueNum, size);
    regs().write(MmioDriver::kQueueReady, 1);
    regs().set_status(MmioDriver::kDriverOk);
    EXPECT_EQ(regs().status(), MmioDriver::kDriverOk | MmioDriver::kNeedsReset) << size;
    EXPECT_EQ(device_.activations, 0);
  }
}

TEST_F(MmioTest, NeedsResetForRingsThatAreNotAligned) {
  QueueLayout bad = layout();
  bad.descriptors.value += 8;
  expect_unusable(bad);
  bad = layout();
  bad.driver_area.value += 1;
  expect_unusable(bad);
  bad = layout();
  bad.device_area.value += 2;
  expect_unusable(bad);
}

TEST_F(MmioTest, NeedsResetForRingsOutsideRam) {
  for (const uint64_t at :
       std::to_array<uint64_t>({kRamBytes, kRamBytes - 16, 1ull << 32, 1ull << 63, ~0ull - 15})) {
    QueueLayout bad = layout();
    bad.descriptors = {at};
    expect_unusable(bad);
    bad = layout();
    bad.driver_area = {at};
    expect_unusable(bad);
    bad = layout();
    bad.device_area = {at};
    expect_unusable(bad);
  }
}

TEST_F(MmioTest, StartsAfterAResetFromNeedsReset) {
  QueueLayout bad = layout();
  bad.size = 0;
  expect_unusable(bad);
  start();
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
}

TEST_F(MmioTest, KicksTheQueueThatTheDriverNames) {
  start();
  regs().kick(1);
  EXPECT_FALSE(transport_->kicks()[0].consume());
  EXPECT_TRUE(transport_->kicks()[1].consume());
}

TEST_F(MmioTest, IgnoresAKickOfAQueueThatDoesNotExist) {
  start();
  for (const uint32_t index : {2u, 3u, 0x10000u, 0xffffffffu}) regs().kick(index);
  for (const EventFd& kick : transport_->kicks()) EXPECT_FALSE(kick.consume());
}

// --- reset ---

TEST_F(MmioTest, ForgetsEverythingAtReset) {
  start();
  transport_->queue_interrupt(0);
  transport_->config_changed();
  regs().write(MmioDriver::kQueueSel, 1);
  regs().write(MmioDriver::kDeviceFeaturesSel, 1);
  regs().reset();
  EXPECT_EQ(device_.resets, 2);  // negotiate() begins with one
  EXPECT_EQ(regs().status(), 0u);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 0u);
  EXPECT_EQ(regs().read(MmioDriver::kQueueNumMax), 64u);
  EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 0u);
  EXPECT_EQ(regs().read(MmioDriver::kDeviceFeatures),
            static_cast<uint32_t>(kDeviceFeature) | static_cast<uint32_t>(kAlwaysOffered));
  // The features of the last life are gone too.
  regs().set_status(MmioDriver::kAcknowledged);
  regs().set_status(MmioDriver::kDriver);
  regs().set_status(MmioDriver::kFeaturesOk);
  EXPECT_EQ(regs().status(), MmioDriver::kDriver);
}

TEST_F(MmioTest, ResetsFromEveryState) {
  const auto steps = std::to_array<uint32_t>({1, 3, 11, 15});
  for (const uint32_t last : steps) {
    regs().reset();
    regs().set_driver_features(kFeatureVersion1);
    for (const uint32_t step : steps)
      if (step <= last) regs().set_status(step);
    ASSERT_EQ(regs().status(), last);
    regs().reset();
    EXPECT_EQ(regs().status(), 0u);
  }
}

// --- interrupts (4.2.3.3, 4.2.3.4) ---

TEST_F(MmioTest, PulsesOnceUntilTheDriverAcknowledges) {
  start();
  transport_->queue_interrupt(0);
  transport_->queue_interrupt(0);
  EXPECT_EQ(line_.pulses(), 1);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 1u);
  regs().write(MmioDriver::kInterruptAck, 1);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 0u);
  transport_->queue_interrupt(0);
  EXPECT_EQ(line_.pulses(), 2);
}

TEST_F(MmioTest, KeepsTheCausesApart) {
  start();
  transport_->queue_interrupt(0);
  transport_->config_changed();
  EXPECT_EQ(line_.pulses(), 2);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 3u);
  regs().write(MmioDriver::kInterruptAck, 1);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 2u);
  regs().write(MmioDriver::kInterruptAck, 0xfffffffc);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 2u);
  regs().write(MmioDriver::kInterruptAck, 2);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 0u);
}

TEST_F(MmioTest, CountsConfigurationGenerations) {
  start();
  const uint32_t before = regs().read(MmioDriver::kConfigGeneration);
  transport_->config_changed();
  EXPECT_NE(regs().read(MmioDriver::kConfigGeneration), before);
}

TEST_F(MmioTest, TellsARunningDriverThatTheDeviceNeedsReset) {
  start();
  device_.notifier->needs_reset();
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk | MmioDriver::kNeedsReset);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 2u);
  EXPECT_EQ(line_.pulses(), 1);
}

// 2.1.2: no configuration change before DRIVER_OK.
TEST_F(MmioTest, SaysNothingOfNeedsResetBeforeDriverOk) {
  negotiate();
  transport_->needs_reset();
  EXPECT_EQ(regs().status(), MmioDriver::kFeaturesOk | MmioDriver::kNeedsReset);
  EXPECT_EQ(line_.pulses(), 0);
}

// Two vCPUs at the registers, the device's loop at the interrupts.
TEST_F(MmioTest, ServesSeveralThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (int cpu = 0; cpu < 2; ++cpu) {
    threads.emplace_back([this] {
      for (int i = 0; i < 300; ++i) {
        (void)regs().start(layout());
        regs().kick(0);
        regs().write(MmioDriver::kInterruptAck, regs().read(MmioDriver::kInterruptStatus));
        regs().reset();
      }
    });
  }
  threads.emplace_back([this] {
    for (int i = 0; i < 10'000; ++i) {
      transport_->queue_interrupt(0);
      if (i % 100 == 0) transport_->needs_reset();
    }
  });
  for (std::thread& thread : threads) thread.join();
  regs().reset();
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 0u);
}

}  // namespace
}  // namespace wick::virtio
