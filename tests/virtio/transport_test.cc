// Tests the part that all transports share (transport.h), once over virtio-mmio and once over
// virtio-pci: the status bits and their order, features and reset.
#include "virtio/transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

#include "tests/virtio/transport_fixture.h"

namespace wick::virtio {
namespace {

constexpr uint64_t kAlwaysOffered =
    feature_bit(VIRTIO_F_VERSION_1) | feature_bit(VIRTIO_RING_F_INDIRECT_DESC) |
    feature_bit(VIRTIO_RING_F_EVENT_IDX) | feature_bit(VIRTIO_F_RING_RESET);

TEST_P(TransportTest, IntroducesItsDevice) {
  EXPECT_EQ(regs().device_id(), RememberingDevice::kId);
  EXPECT_EQ(regs().device_features(), RememberingDevice::kFeature | kAlwaysOffered);
  EXPECT_EQ(regs().status(), 0u);
}

TEST_P(TransportTest, OffersNoFeaturesBeyondSixtyFourBits) {
  for (const uint32_t word : {2u, 3u, 32u, 0xffffffffu}) {
    EXPECT_EQ(regs().device_features_word(word), 0u) << word;
  }
}

TEST_P(TransportTest, PassesConfigurationAccessesOfAnyWidth) {
  const uint64_t value = 0x8877665544332211;
  regs().set_config(0, value, 4);
  regs().set_config(4, value, 1);
  EXPECT_EQ(regs().config(0, 8), 0x1144332211u);
  EXPECT_EQ(regs().config(1, 2), 0x3322u);
  EXPECT_EQ(regs().config(3, 4), 0x1144u);
}

TEST_P(TransportTest, ReadsZeroPastTheConfigurationSpace) {
  const uint64_t ones = ~0ull;
  for (const uint64_t offset : {6u, 7u, 100u, 0xef8u}) regs().set_config(offset, ones, 8);
  regs().set_config(5, ones, 8);
  EXPECT_EQ(regs().config(6, 8), 0u);
  EXPECT_EQ(regs().config(0xef8, 8), 0u);
  EXPECT_EQ(regs().config(5, 4), 0xffu);
}

// --- the status table (3.1.1) ---

TEST_P(TransportTest, TakesTheStepsInTheirOrder) {
  for (const uint32_t step :
       std::to_array<uint32_t>({TransportDriver::kAcknowledged, TransportDriver::kDriver})) {
    regs().set_status(step);
    EXPECT_EQ(regs().status(), step);
  }
  regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1) | RememberingDevice::kFeature);
  regs().set_status(TransportDriver::kFeaturesOk);
  EXPECT_EQ(regs().status(), TransportDriver::kFeaturesOk);
  EXPECT_EQ(device_.activations, 0);
  regs().set_status(TransportDriver::kDriverOk);
  EXPECT_EQ(regs().status(), TransportDriver::kDriverOk);
  EXPECT_EQ(device_.activations, 1);
  EXPECT_EQ(device_.features_accepted,
            feature_bit(VIRTIO_F_VERSION_1) | RememberingDevice::kFeature);
}

// Writes every byte in every state: the new state is always in the table, and the device is
// active exactly in the last one.
TEST_P(TransportTest, NeverEntersAStateOutsideTheTable) {
  const auto states = std::to_array<uint32_t>({0, 1, 3, 11, 15});
  for (const uint32_t state : states) {
    for (uint32_t value = 0; value < 256; ++value) {
      regs().reset();
      device_.activations = 0;
      for (const uint32_t step : states) {
        if (step == 0 || step > state) continue;
        if (step == TransportDriver::kFeaturesOk)
          regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1));
        regs().set_status(step);
      }
      if (state == TransportDriver::kDriver)
        regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1));
      ASSERT_EQ(regs().status(), state);
      regs().set_status(value);

      const uint32_t now = regs().status();
      const uint32_t without_failed = now & ~uint32_t{VIRTIO_CONFIG_S_FAILED};
      EXPECT_THAT(states, testing::Contains(without_failed)) << state << " then " << value;
      EXPECT_EQ(device_.activations, ((state | now) & VIRTIO_CONFIG_S_DRIVER_OK) != 0 ? 1 : 0);
      // 2.1.1: only a reset clears a bit, and only bits that the driver wrote are set.
      EXPECT_TRUE(value == 0 || (state & ~now) == 0) << state << " then " << value;
      EXPECT_EQ(now & ~(state | value), 0u) << state << " then " << value;
    }
  }
}

TEST_P(TransportTest, IgnoresStepsOutOfOrder) {
  for (const uint32_t value : {2u, 4u, 8u, 5u, 9u, 12u, 6u, 14u}) {
    regs().reset();
    regs().set_status(value);
    EXPECT_EQ(regs().status() & ~value, 0u);
    EXPECT_EQ(regs().status() & VIRTIO_CONFIG_S_DRIVER_OK, 0u) << value;
    EXPECT_EQ(device_.activations, 0);
  }
}

TEST_P(TransportTest, ActivatesOnce) {
  start();
  regs().set_status(TransportDriver::kDriverOk);
  regs().set_status(TransportDriver::kFeaturesOk);
  regs().set_status(TransportDriver::kDriverOk);
  EXPECT_EQ(device_.activations, 1);
  EXPECT_EQ(regs().status(), TransportDriver::kDriverOk);
}

TEST_P(TransportTest, StaysFailedUntilReset) {
  regs().set_status(TransportDriver::kAcknowledged);
  regs().set_status(TransportDriver::kAcknowledged | VIRTIO_CONFIG_S_FAILED);
  EXPECT_EQ(regs().status(), TransportDriver::kAcknowledged | VIRTIO_CONFIG_S_FAILED);
  regs().set_status(TransportDriver::kDriver | VIRTIO_CONFIG_S_FAILED);
  EXPECT_EQ(regs().status(), TransportDriver::kAcknowledged | VIRTIO_CONFIG_S_FAILED);
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
}

TEST_P(TransportTest, IgnoresANeedsResetThatTheDriverWrites) {
  regs().set_status(TransportDriver::kAcknowledged | VIRTIO_CONFIG_S_NEEDS_RESET);
  EXPECT_EQ(regs().status(), TransportDriver::kAcknowledged);
}

// --- features (2.2, 6.1) ---

TEST_P(TransportTest, RefusesFeaturesThatWereNotOffered) {
  for (unsigned bit = 0; bit < 64; ++bit) {
    const uint64_t feature = 1ull << bit;
    const bool offered = ((RememberingDevice::kFeature | kAlwaysOffered) & feature) != 0;
    EXPECT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1) | feature),
              offered ? TransportDriver::kFeaturesOk : TransportDriver::kDriver)
        << "bit " << bit;
  }
}

TEST_P(TransportTest, RefusesADriverWithoutVersionOne) {
  EXPECT_EQ(regs().negotiate(0), TransportDriver::kDriver);
  EXPECT_EQ(
      regs().negotiate(RememberingDevice::kFeature | feature_bit(VIRTIO_RING_F_INDIRECT_DESC)),
      TransportDriver::kDriver);
}

TEST_P(TransportTest, LetsTheDriverAskForLessAfterARefusal) {
  EXPECT_EQ(regs().negotiate(~0ull), TransportDriver::kDriver);
  regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1));
  regs().set_status(TransportDriver::kFeaturesOk);
  EXPECT_EQ(regs().status(), TransportDriver::kFeaturesOk);
}

TEST_P(TransportTest, IgnoresFeaturesChangedAfterFeaturesOk) {
  negotiate();
  regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1) |
                             feature_bit(VIRTIO_RING_F_INDIRECT_DESC) |
                             RememberingDevice::kFeature | 1ull << 63);
  regs().set_status(TransportDriver::kDriverOk);
  EXPECT_EQ(device_.features_accepted, feature_bit(VIRTIO_F_VERSION_1));
}

TEST_P(TransportTest, IgnoresFeatureWordsBeyondSixtyFourBits) {
  regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1));
  for (const uint32_t word : {2u, 32u, 0xffffffffu})
    regs().set_driver_features_word(word, 0xffffffff);
  regs().set_status(TransportDriver::kFeaturesOk);
  EXPECT_EQ(regs().status(), TransportDriver::kFeaturesOk);
}

// --- reset ---

TEST_P(TransportTest, ForgetsEverythingAtReset) {
  start();
  transport().queue_interrupt(0);
  transport().config_changed();
  (void)regs().queue_ready(1);
  (void)regs().device_features_word(1);
  regs().reset();
  EXPECT_EQ(device_.resets, 2);  // negotiate() resets the device too
  EXPECT_EQ(regs().status(), 0u);
  EXPECT_EQ(regs().take_causes(), 0u);
  EXPECT_EQ(regs().queue_max_size(0), 64u);
  EXPECT_FALSE(regs().queue_ready(0));
  EXPECT_FALSE(plugged_->line().level());
  // The features from before the reset are cleared too.
  regs().set_status(TransportDriver::kAcknowledged);
  regs().set_status(TransportDriver::kDriver);
  regs().set_status(TransportDriver::kFeaturesOk);
  EXPECT_EQ(regs().status(), TransportDriver::kDriver);
}

TEST_P(TransportTest, ResetsFromEveryState) {
  const auto steps = std::to_array<uint32_t>({1, 3, 11, 15});
  for (const uint32_t last : steps) {
    regs().reset();
    regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1));
    for (const uint32_t step : steps)
      if (step <= last) regs().set_status(step);
    ASSERT_EQ(regs().status(), last);
    regs().reset();
    EXPECT_EQ(regs().status(), 0u);
  }
}

// --- interrupts (4.2.3.3, 4.2.3.4) ---

TEST_P(TransportTest, InterruptsOnceUntilTheDriverAcknowledges) {
  start();
  transport().queue_interrupt(0);
  transport().queue_interrupt(0);
  EXPECT_EQ(plugged_->interrupts(), 1);
  EXPECT_EQ(regs().take_causes(), TransportDriver::kQueueCause);
  EXPECT_FALSE(plugged_->line().level());
  EXPECT_EQ(regs().take_causes(), 0u);
  transport().queue_interrupt(0);
  EXPECT_EQ(plugged_->interrupts(), 2);
}

TEST_P(TransportTest, CountsConfigurationGenerations) {
  start();
  const uint32_t before = regs().config_generation();
  transport().config_changed();
  EXPECT_NE(regs().config_generation(), before);
}

TEST_P(TransportTest, TellsARunningDriverThatTheDeviceNeedsReset) {
  start();
  device_.notifier->needs_reset();
  EXPECT_EQ(regs().status(), TransportDriver::kDriverOk | TransportDriver::kNeedsReset);
  EXPECT_EQ(regs().take_causes(), 2u);
  EXPECT_EQ(plugged_->interrupts(), 1);
}

// 2.1.2: no configuration change before DRIVER_OK.
TEST_P(TransportTest, SaysNothingOfNeedsResetBeforeDriverOk) {
  negotiate();
  transport().needs_reset();
  EXPECT_EQ(regs().status(), TransportDriver::kFeaturesOk | TransportDriver::kNeedsReset);
  EXPECT_EQ(plugged_->interrupts(), 0);
}

// Two vCPUs access the registers while the device's loop sends interrupts.
TEST_P(TransportTest, ServesSeveralThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (int cpu = 0; cpu < 2; ++cpu) {
    threads.emplace_back([this] {
      for (int i = 0; i < 300; ++i) {
        (void)regs().start(layout());
        regs().kick(0);
        (void)regs().take_causes();
        regs().reset();
      }
    });
  }
  threads.emplace_back([this] {
    for (int i = 0; i < 10'000; ++i) {
      transport().queue_interrupt(0);
      if (i % 100 == 0) transport().needs_reset();
    }
  });
  for (std::thread& thread : threads) thread.join();
  regs().reset();
  EXPECT_EQ(regs().take_causes(), 0u);
}

// --- power off ---

// power_off() acts as a reset by the driver: the device keeps nothing of the transport.
TEST_P(TransportTest, PowerOffTakesEverythingBack) {
  start();
  transport().queue_interrupt(0);
  const int resets = device_.resets;
  transport().power_off();
  EXPECT_EQ(device_.resets, resets + 1);
  EXPECT_EQ(device_.notifier, nullptr);
  EXPECT_FALSE(plugged_->line().level());
  EXPECT_EQ(regs().status(), 0u);
  transport().power_off();
  plugged_.reset();
}

TEST_P(TransportTest, StartsAgainAfterPowerOff) {
  start();
  transport().power_off();
  device_.activations = 0;
  start();
}

INSTANTIATE_TEST_SUITE_P(, TransportTest, testing::Values(Kind::kMmio, Kind::kPci),
                         [](const auto& kind) {
                           return kind.param == Kind::kMmio ? "Mmio" : "Pci";
                         });

}  // namespace
}  // namespace wick::virtio
