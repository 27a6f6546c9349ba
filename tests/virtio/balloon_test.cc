// Tests virtio-balloon through the MMIO registers and the rings, with the device on a loop
// of its own.
#include "virtio/balloon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_balloon.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstring>
#include <deque>

#include "tests/fakes/await_used.h"
#include "tests/fakes/counting_line.h"
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

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kHigh = 1ull << 32;  // start of the RAM above the hole
constexpr uint64_t kFree = 8 * kMiB;    // start of the memory that the tests give up
constexpr uint32_t kConfigInterrupt = 2;

class BalloonTest : public testing::Test {
 protected:
  enum Queue : uint16_t { kInflate, kDeflate, kReporting };

  BalloonTest() {
    // Otherwise khugepaged may put a huge page over memory that was partly given up before
    // the test checks it.
    EXPECT_EQ(::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0) << std::strerror(errno);
    memory_.emplace(memory_of({{{0}, 256 * kMiB}, {{kHigh}, 4 * kMiB}}));
    thread_ = LoopThread::start("balloon-test").value();
    balloon_ = std::make_unique<Balloon>(*memory_, thread_->loop());
    transport_ = MmioTransport::create(*balloon_, *memory_, line_, "balloon").value();
    registers_.emplace(*transport_);
  }
  ~BalloonTest() override {
    regs().reset();
    thread_->stop();
  }

  void start() {
    drivers_.clear();
    ASSERT_EQ(regs().negotiate(regs().device_features() & ~feature_bit(VIRTIO_RING_F_EVENT_IDX)),
              MmioDriver::kFeaturesOk);
    for (uint32_t i = 0; i < balloon_->queue_max_sizes().size(); ++i) {
      drivers_.emplace_back(
          *memory_, FakeDriver::Options{
                        .size = 64, .base = {0x10000 + i * kMiB}, .buffer_area_bytes = 0xc0000});
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
  void inflate(const std::vector<uint32_t>& pages, Queue which = kInflate) {
    const auto request = queue(which).chain().readable(std::as_bytes(std::span(pages))).publish();
    kick(which);
    EXPECT_EQ(take_used(which), (FakeDriver::Used{request.head, 0}));
  }
  void report(GuestAddress at, uint32_t size_bytes) {
    const auto request = queue(kReporting).chain().writable_at(at, size_bytes).publish();
    kick(kReporting);
    EXPECT_EQ(take_used(kReporting), (FakeDriver::Used{request.head, 0}));
  }
  void fill(uint64_t at, size_t size_bytes) {
    std::ranges::fill(memory_->slice({at}, size_bytes).value(), std::byte{0xaa});
  }
  // Returns the byte at `address`: 0xaa if fill() wrote it, 0 if it was discarded.
  int at(uint64_t address) { return std::to_integer<int>(*memory_->read<std::byte>({address})); }
  size_t resident_pages(uint64_t address, size_t size_bytes) {
    std::vector<unsigned char> resident(size_bytes / kPage);
    const auto bytes = memory_->slice({address}, size_bytes).value();
    EXPECT_EQ(::mincore(bytes.data(), size_bytes, resident.data()), 0);
    return static_cast<size_t>(std::ranges::count(resident, 1));
  }

  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  std::deque<FakeDriver> drivers_;
  fakes::CountingLine line_;
  std::unique_ptr<Balloon> balloon_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
};

TEST_F(BalloonTest, GivesInflatedPagesBackToTheHost) {
  start();
  fill(kFree, 2 * kMiB);
  std::vector<uint32_t> pages;
  for (uint32_t i = 0; i < 256; ++i) pages.push_back(kFree / kPage + 511 - i);  // as Linux does
  inflate(pages);
  EXPECT_EQ(at(kFree + kMiB - 1), 0xaa);
  EXPECT_EQ(resident_pages(kFree + kMiB, kMiB), 0u);
  EXPECT_EQ(at(kFree + kMiB), 0);
}

TEST_F(BalloonTest, TakesPagesInAnyOrderAndMoreThanOnce) {
  start();
  fill(kFree, 16 * kPage);
  const uint32_t first = kFree / kPage;
  inflate({first + 3, first + 3, first + 9, first + 4, first + 2, first + 10});
  for (uint32_t i = 0; i < 16; ++i)
    EXPECT_EQ(at(kFree + i * kPage), (i >= 2 && i <= 4) || i == 9 || i == 10 ? 0 : 0xaa) << i;
}

TEST_F(BalloonTest, DeflatingNeedsNothing) {
  start();
  fill(kFree, kPage);
  inflate({kFree / kPage}, kDeflate);
  EXPECT_EQ(at(kFree), 0xaa);
}

TEST_F(BalloonTest, GivesReportedMemoryBackToTheHost) {
  start();
  fill(kFree, 8 * kMiB);
  const auto request = queue(kReporting)
                           .chain()
                           .writable_at({kFree}, 2 * kMiB)
                           .writable_at({kFree + 4 * kMiB}, 4 * kMiB)
                           .publish();
  kick(kReporting);
  EXPECT_EQ(take_used(kReporting), (FakeDriver::Used{request.head, 0}));
  EXPECT_EQ(resident_pages(kFree, 2 * kMiB), 0u);
  EXPECT_EQ(at(kFree + 2 * kMiB), 0xaa);
  EXPECT_EQ(at(kFree + 4 * kMiB - 1), 0xaa);
  EXPECT_EQ(resident_pages(kFree + 4 * kMiB, 4 * kMiB), 0u);
}

TEST_F(BalloonTest, TakesRangesOfSeveralTurns) {
  start();
  const uint64_t size = 200 * kMiB;  // a turn is 64 MiB
  fill(kFree, kPage);
  fill(kFree + size - kPage, 2 * kPage);
  report({kFree}, size);
  EXPECT_EQ(at(kFree), 0);
  EXPECT_EQ(at(kFree + size - 1), 0);
  EXPECT_EQ(at(kFree + size), 0xaa);

  // Single pages, many of them twice, so that they cannot be discarded together.
  std::vector<uint32_t> pages;
  for (uint32_t i = 0; i < 20'000; ++i) pages.push_back(kFree / kPage + i * 7 % 5000);
  fill(kFree, 5000 * kPage);
  inflate(pages);
  EXPECT_EQ(resident_pages(kFree, 5000 * kPage), 0u);
}

// --- hostile drivers ---

TEST_F(BalloonTest, IgnoresPagesThatAreNotRam) {
  start();
  fill(kFree, kPage);
  fill(kHigh, kPage);
  fill(256 * kMiB - kPage, kPage);
  inflate({0xffffffff, 0, 256 * kMiB / kPage, kHigh / kPage - 1, 0x7fffffff, kFree / kPage});
  EXPECT_EQ(at(kFree), 0);
  EXPECT_EQ(at(kHigh), 0xaa);
  // A run of pages that crosses the end of RAM is refused as a whole.
  inflate({256 * kMiB / kPage - 1, 256 * kMiB / kPage});
  EXPECT_EQ(at(256 * kMiB - kPage), 0xaa);
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(BalloonTest, IgnoresReportsOfPartsOfPages) {
  start();
  fill(kFree, 4 * kPage);
  report({kFree + 1}, kPage);
  report({kFree}, kPage - 1);
  report({kFree + kPage}, kPage + 8);
  report({kFree}, 0);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(at(kFree + i * kPage), 0xaa) << i;
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(BalloonTest, NeedsAResetForReportsOutsideRam) {
  start();
  (void)queue(kReporting).chain().writable_at({256 * kMiB - kPage}, 2 * kPage).publish();
  regs().kick(kReporting);
  EXPECT_TRUE(wait_for([&] { return (regs().status() & MmioDriver::kNeedsReset) != 0; }));
  start();
  report({kFree}, kPage);
}

TEST_F(BalloonTest, GivesBackChainsWithNothingInThem) {
  start();
  for (const Queue which : {kInflate, kDeflate, kReporting}) {
    (void)queue(which).chain().writable(0).publish();
    (void)queue(which).chain().readable("odd").publish();
    (void)queue(which).chain().readable("").publish();
    kick(which);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(take_used(which).written_bytes, 0u);
  }
}

// A driver may give up the pages of its rings and of the page list itself. They read as
// zeroes from then on, which breaks only the driver's own queue.
TEST_F(BalloonTest, SurvivesAGuestThatGivesItsRingsAway) {
  start();
  const GuestAddress list{2 * kMiB};
  std::vector<uint32_t> pages(100'000, static_cast<uint32_t>(list.value / kPage));
  for (uint32_t i = 0; i < pages.size(); ++i) pages[i] += i % 100;
  ASSERT_TRUE(memory_->write_bytes(list, std::as_bytes(std::span(pages))));
  (void)queue(kInflate).chain().readable_at(list, 400'000).publish();
  regs().kick(kInflate);
  (void)queue(kReporting).chain().writable_at({0}, 8 * kMiB).publish();
  regs().kick(kReporting);
  thread_->loop().call([] {});
  regs().kick(kInflate);
  regs().kick(kReporting);
  start();
  fill(kFree, kPage);
  report({kFree}, kPage);
  EXPECT_EQ(at(kFree), 0);
}

TEST_F(BalloonTest, LeavesTheLoopToOthersWhenADriverNeverStops) {
  start();
  for (int i = 0; i < 16; ++i) {
    (void)queue(kInflate).chain().readable_at({kFree}, 64 * kMiB).publish();
    (void)queue(kReporting).chain().writable_at({kFree}, 128 * kMiB).publish();
  }
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    while (!stop)
      for (const Queue which : {kInflate, kReporting})
        if (const auto used = queue(which).take_used())
          queue(which).make_available(static_cast<uint16_t>(used->head));
  });
  regs().kick(kInflate);
  regs().kick(kReporting);
  for (int i = 0; i < 10; ++i) thread_->loop().call([] {});
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
  stop = true;
  guest.join();
}

// --- the target ---

TEST_F(BalloonTest, AsksForNothingAtFirst) {
  EXPECT_EQ(regs().config(0, 8), 0u);
  start();
  EXPECT_EQ(regs().config(0, 4), 0u);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 0u);
}

TEST_F(BalloonTest, TellsADriverOfANewTarget) {
  balloon_->set_target(8 * kMiB);  // there is no driver to notify
  start();
  EXPECT_EQ(regs().config(0, 4), 8 * kMiB / kPage);
  balloon_->set_target(16 * kMiB);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), kConfigInterrupt);
  EXPECT_EQ(regs().config(0, 4), 16 * kMiB / kPage);
  balloon_->set_target(~0ull);
  EXPECT_EQ(regs().config(0, 4), 260 * kMiB / kPage) << "all there is";
}

TEST_F(BalloonTest, KnowsWhatTheGuestSaysItGaveUp) {
  start();
  regs().write(MmioDriver::kConfig + 4, 100);
  EXPECT_EQ(balloon_->actual_bytes(), 100 * kPage);
  EXPECT_EQ(regs().config(4, 4), 100u);
  regs().write(MmioDriver::kConfig + 0, 7);  // read-only for the driver
  regs().write(MmioDriver::kConfig + 8, 7);
  regs().write(MmioDriver::kConfig + 0xef8, 7);
  EXPECT_EQ(regs().config(0, 4), 0u);
  EXPECT_EQ(regs().config(8, 8), 0u);
  EXPECT_EQ(balloon_->actual_bytes(), 100 * kPage);
  regs().reset();
  EXPECT_EQ(balloon_->actual_bytes(), 0u);
}

}  // namespace
}  // namespace wick::virtio
