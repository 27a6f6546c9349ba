// Tests how all transports set up queues and reset one of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

#include "tests/virtio/transport_fixture.h"

namespace wick::virtio {
namespace {

// --- queues (4.2.2, 4.2.3.2) ---

TEST_P(TransportTest, TellsTheSizeOfEachQueue) {
  EXPECT_EQ(regs().queue_max_size(0), 64u);
  EXPECT_EQ(regs().queue_max_size(1), 16u);
}

TEST_P(TransportTest, HasNoQueueBeyondTheLast) {
  negotiate();
  for (const uint32_t index : {2u, 3u, 0x8000u, 0xffffu}) {
    EXPECT_EQ(regs().queue_max_size(index), 0u);
    regs().set_queue(index, layout());
    EXPECT_FALSE(regs().queue_ready(index));
  }
  regs().set_status(TransportDriver::kDriverOk);
  EXPECT_TRUE(device_.queue_indices.empty());
  EXPECT_EQ(regs().status(), TransportDriver::kDriverOk);
}

TEST_P(TransportTest, MovesInExactlyTheReadyQueues) {
  negotiate();
  regs().set_queue(1, layout());
  regs().set_status(TransportDriver::kDriverOk);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(1));
}

TEST_P(TransportTest, IgnoresQueueRegistersBeforeFeaturesOk) {
  regs().set_status(TransportDriver::kAcknowledged);
  regs().set_status(TransportDriver::kDriver);
  regs().set_queue(0, layout());
  EXPECT_FALSE(regs().queue_ready(0));
}

TEST_P(TransportTest, IgnoresChangesToAReadyQueue) {
  negotiate();
  regs().set_queue(0, layout());
  QueueLayout wild = layout();
  wild.size = 3;
  wild.descriptors = {~0ull};
  wild.driver_area = {~0ull};
  wild.device_area = {~0ull};
  regs().set_queue(0, wild);  // enables the queue a second time, too
  regs().set_status(TransportDriver::kDriverOk);
  EXPECT_EQ(regs().status(), TransportDriver::kDriverOk);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
}

TEST_P(TransportTest, IgnoresQueueRegistersAfterDriverOk) {
  start();
  regs().set_queue(1, layout());
  EXPECT_FALSE(regs().queue_ready(1));
  EXPECT_TRUE(regs().queue_ready(0));
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
  EXPECT_EQ(regs().status(), TransportDriver::kDriverOk);
}

TEST_P(TransportTest, NeedsResetForAQueueOfAnImpossibleSize) {
  for (const uint16_t size : std::to_array<uint16_t>({0, 3, 17, 128, 1024, 2048, 0x8000, 0xffff})) {
    device_.activations = 0;
    negotiate();
    QueueLayout bad = layout();
    bad.size = size;
    regs().set_queue(0, bad);
    regs().set_status(TransportDriver::kDriverOk);
    EXPECT_EQ(regs().status(), TransportDriver::kDriverOk | TransportDriver::kNeedsReset) << size;
    EXPECT_EQ(device_.activations, 0);
  }
}

TEST_P(TransportTest, NeedsResetForRingsThatAreNotAligned) {
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

TEST_P(TransportTest, NeedsResetForRingsOutsideRam) {
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

TEST_P(TransportTest, StartsAfterAResetFromNeedsReset) {
  QueueLayout bad = layout();
  bad.size = 0;
  expect_unusable(bad);
  start();
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
}

TEST_P(TransportTest, KicksTheQueueThatTheDriverNames) {
  start();
  regs().kick(1);
  EXPECT_FALSE(transport().kicks()[0].consume());
  EXPECT_TRUE(transport().kicks()[1].consume());
}

TEST_P(TransportTest, IgnoresAKickOfAQueueThatDoesNotExist) {
  start();
  for (const uint32_t index : {2u, 3u, 0x10000u, 0xffffffffu}) regs().kick(index);
  for (const EventFd& kick : transport().kicks()) EXPECT_FALSE(kick.consume());
}

// --- the reset of one queue (2.6.1, 4.1.4.3, 4.2.2) ---

TEST_P(TransportTest, AResetQueueStartsAgainElsewhereAndInAnotherSize) {
  start_two();
  regs().reset_queue(0);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(1));
  EXPECT_FALSE(regs().queue_in_reset(0));
  EXPECT_FALSE(regs().queue_ready(0));
  EXPECT_TRUE(regs().queue_ready(1));
  EXPECT_EQ(regs().queue_max_size(0), 64u) << "what it was before it was set up";

  const FakeDriver smaller(memory_, {.size = 8, .base = {0x200000}});
  regs().set_queue(0, smaller.layout());
  EXPECT_TRUE(regs().queue_ready(0));
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(1, 0));
  EXPECT_THAT(device_.queue_sizes, testing::ElementsAre(8));
  EXPECT_EQ(regs().status(), TransportDriver::kDriverOk);
  EXPECT_EQ(device_.activations, 1);
  EXPECT_EQ(device_.resets, 1) << "that of negotiate()";
}

TEST_P(TransportTest, IgnoresTheResetOfAQueueThatWasNotNegotiated) {
  start();
  regs().reset_queue(0);
  EXPECT_TRUE(regs().queue_ready(0));
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
}

TEST_P(TransportTest, IgnoresTheResetOfAQueueBeforeFeaturesOk) {
  regs().reset();
  regs().set_status(TransportDriver::kAcknowledged);
  regs().set_status(TransportDriver::kDriver);
  regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1) | feature_bit(VIRTIO_F_RING_RESET));
  regs().reset_queue(0);
  EXPECT_EQ(device_.stops, 0);
}

TEST_P(TransportTest, ResetsAQueueBeforeDriverOk) {
  ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1) | feature_bit(VIRTIO_F_RING_RESET)),
            TransportDriver::kFeaturesOk);
  regs().set_queue(0, layout());
  regs().reset_queue(0);
  EXPECT_FALSE(regs().queue_ready(0));
  EXPECT_EQ(device_.stops, 0) << "the device never had it";
  regs().set_queue(0, layout());
  regs().set_status(TransportDriver::kDriverOk);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
}

TEST_P(TransportTest, AQueueMayBeResetTwiceAndWithoutBeingInUse) {
  start_two();
  for (int i = 0; i < 2; ++i) regs().reset_queue(1);
  for (const uint32_t index : {2u, 0x8000u, 0xffffu}) regs().reset_queue(index);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
  regs().set_queue(1, layout());
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0, 1));
  EXPECT_EQ(regs().status(), TransportDriver::kDriverOk);
}

TEST_P(TransportTest, NeedsResetForAnUnusableQueueInARunningDevice) {
  for (const uint64_t at : std::to_array<uint64_t>({kRamBytes, ~0ull - 15, 8})) {
    start_two();
    (void)regs().take_causes();
    regs().reset_queue(0);
    QueueLayout bad = layout();
    bad.descriptors = {at};
    regs().set_queue(0, bad);
    EXPECT_EQ(regs().status(), TransportDriver::kDriverOk | TransportDriver::kNeedsReset);
    EXPECT_EQ(regs().take_causes(), TransportDriver::kConfigCause);
    EXPECT_THAT(device_.queue_indices, testing::ElementsAre(1));
    regs().reset_queue(0);
  }
}

// DRIVER_OK with an invalid ring does not activate the device.
TEST_P(TransportTest, ADeviceThatDidNotStartTakesNoQueueLater) {
  ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1) | feature_bit(VIRTIO_F_RING_RESET)),
            TransportDriver::kFeaturesOk);
  QueueLayout bad = layout();
  bad.size = 3;
  regs().set_queue(0, bad);
  regs().set_status(TransportDriver::kDriverOk);
  regs().reset_queue(0);
  regs().set_queue(0, layout());
  EXPECT_FALSE(regs().queue_ready(0));
  EXPECT_TRUE(device_.queue_indices.empty());
  EXPECT_EQ(device_.stops, 0);
}

// Several vCPUs reset, start and kick queues at the same time.
TEST_P(TransportTest, SeveralThreadsResetQueuesAtOnce) {
  start_two();
  std::vector<std::thread> threads;
  for (int cpu = 0; cpu < 2; ++cpu) {
    threads.emplace_back([this] {
      for (uint32_t i = 0; i < 300; ++i) {
        regs().reset_queue(i % 3);
        regs().set_queue(i % 2, layout());
        regs().kick(i % 2);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
}

}  // namespace
}  // namespace wick::virtio
