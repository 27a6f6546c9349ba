// Tests virtio-blk with many requests at once.
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "tests/fakes/pattern.h"
#include "tests/virtio/blk_fixture.h"

namespace wick::virtio {
namespace {

using fakes::pattern;

TEST_F(BlkTest, CompletesInTheOrderOfTheDisk) {
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  const auto first = publish_read(0, 512);
  const auto second = publish_read(1, 512);
  const auto third = publish_read(2, 512);
  kick_until_held(3);
  on_loop([&] { disk_->release_newest(); });
  EXPECT_EQ(take_used().head, third.head);
  on_loop([&] { disk_->release_oldest(); });
  EXPECT_EQ(take_used().head, first.head);
  on_loop([&] { disk_->release_oldest(); });
  EXPECT_EQ(take_used().head, second.head);
}

TEST_F(BlkTest, HasAWholeRingInFlight) {
  set_driver({.size = 256, .buffer_area_bytes = 4 << 20});
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  for (uint32_t i = 0; i < 256; ++i)
    driver_->chain()
        .readable(header(VIRTIO_BLK_T_IN, i))
        .writable(512)
        .writable(1)
        .indirect()
        .publish();
  kick_until_held(256);
  on_loop([&] { disk_->release_all(); });
  for (int i = 0; i < 256; ++i) EXPECT_EQ(take_used().written_bytes, 513u);
}

TEST_F(BlkTest, InterruptsForEachCompletionThatComesLate) {
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  for (int i = 0; i < 3; ++i) publish_read(0, 512);
  kick_until_held(3);
  for (int i = 1; i <= 3; ++i) {
    on_loop([&] { disk_->release_oldest(); });
    on_loop([] {});  // the round has ended
    EXPECT_EQ(line_.pulses(), i);
    regs().write(MmioDriver::kInterruptAck, 1);
  }
}

TEST_F(BlkTest, InterruptsOnceForABatch) {
  start();
  for (int i = 0; i < 20; ++i) publish_read(0, 512);
  kick();
  for (int i = 0; i < 20; ++i) (void)take_used();
  on_loop([] {});
  EXPECT_EQ(line_.pulses(), 1);
}

TEST_F(BlkTest, InterruptsOnceForTheLateCompletionsOfARound) {
  start();
  set_delay(MemoryBackend::Delay::kHeld);
  for (int i = 0; i < 20; ++i) publish_read(0, 512);
  kick_until_held(20);
  on_loop([&] { disk_->release_all(); });
  on_loop([] {});
  EXPECT_EQ(line_.pulses(), 1);
}

TEST_F(BlkTest, TakesWhatComesDuringARoundWithoutANotification) {
  set_driver({.size = 256, .event_index = true});
  set_delay(MemoryBackend::Delay::kHeld);
  std::atomic<bool> published = false;
  bool wanted = true;
  EventLoop::RoundEnd before_the_device;
  on_loop([&] {
    before_the_device = loop().at_round_end([&] {
      if (disk_->calls().held == 0 || published) return false;
      publish_read(0, 512);
      wanted = driver_->kick_wanted();
      disk_->set_delay(MemoryBackend::Delay::kNone);
      disk_->release_all();
      published = true;
      return false;
    });
  });
  start();
  publish_read(0, 512);
  kick();
  ASSERT_TRUE(wait_for([&] { return published.load(); }));
  EXPECT_FALSE(wanted);
  (void)take_used();
  (void)take_used();
  on_loop([&] { before_the_device.reset(); });
}

TEST_F(BlkTest, HonoursARefusalOfInterrupts) {
  start();
  driver_->refuse_interrupts();
  EXPECT_EQ(read_status(), VIRTIO_BLK_S_OK);
  on_loop([] {});
  EXPECT_EQ(line_.pulses(), 0);
}

// The driver sleeps until an interrupt and kicks only when the device wants it. Each
// request must complete once, with the right data.
class BlkTraffic : public BlkTest, public testing::WithParamInterface<bool> {};

TEST_P(BlkTraffic, AnswersEveryRequestOnce) {
  constexpr uint32_t kRequests = 5000;
  set_driver({.size = 64, .event_index = GetParam(), .buffer_area_bytes = 2 << 20});
  start();
  set_delay(MemoryBackend::Delay::kNextRound);
  std::vector<std::optional<FakeDriver::Request>> pending(64);
  uint32_t published = 0;
  uint32_t finished = 0;
  int seen_interrupts = line_.pulses();
  while (finished < kRequests) {
    while (published < kRequests && driver_->has_descriptors(3)) {
      const auto request = published % 2 == 0
                               ? publish_write(published % 2048, pattern(512, published))
                               : publish_read(published % 2048, 512);
      pending[request.head] = request;
      ++published;
    }
    kick();
    driver_->want_interrupt_after(driver_->used_seen());
    if (driver_->used_index() == driver_->used_seen()) {
      ASSERT_TRUE(wait_for([&] { return line_.pulses() != seen_interrupts; }))
          << "no interrupt after " << finished;
    }
    seen_interrupts = line_.pulses();
    regs().write(MmioDriver::kInterruptAck, 1);
    while (const auto used = driver_->take_used()) {
      ASSERT_LT(used->head, 64u);
      ASSERT_TRUE(pending[used->head]) << "given back twice";
      EXPECT_EQ(status(*pending[used->head]), VIRTIO_BLK_S_OK);
      pending[used->head].reset();
      ++finished;
    }
  }
  EXPECT_EQ(disk_->calls().reads + disk_->calls().writes, static_cast<int>(kRequests));
}

INSTANTIATE_TEST_SUITE_P(, BlkTraffic, testing::Bool(),
                         [](const auto& param) { return param.param ? "EventIndex" : "Flags"; });

}  // namespace
}  // namespace wick::virtio
