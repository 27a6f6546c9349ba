// The virtio file system device through its registers and rings.
#include "virtio/fs.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <thread>

#include "tests/fakes/await_used.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"
#include "tests/virtio/fuse_client.h"
#include "virtio/mmio.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::MmioDriver;
using fakes::wait_for;

class FsTest : public testing::Test {
 protected:
  FsTest() {
    memory_.emplace(fakes::memory_of(8 << 20));
    thread_ = LoopThread::start("fs-test").value();
    share::TreeOptions options;
    options.path = dir_.path();
    tree_ = share::Tree::open(options).value();
    fs_ = Fs::create(*tree_, thread_->loop(), "the-tag", FuseCache::kAuto).value();
    transport_ = MmioTransport::create(*fs_, *memory_, line_, "fs").value();
    registers_.emplace(*transport_);
    hiprio_.emplace(*memory_, FakeDriver::Options{.size = 64});
    requests_.emplace(*memory_, FakeDriver::Options{.size = 128, .base = {0x400000}});
  }
  ~FsTest() override {
    registers_->reset();
    transport_.reset();
    fs_.reset();
    thread_->stop();
  }

  void start() {
    hiprio_->forget();
    requests_->forget();
    const uint64_t features = registers_->device_features() & ~feature_bit(VIRTIO_RING_F_EVENT_IDX);
    ASSERT_EQ(registers_->negotiate(features), MmioDriver::kFeaturesOk);
    registers_->set_queue(0, hiprio_->layout());
    registers_->set_queue(1, requests_->layout());
    registers_->set_status(MmioDriver::kDriverOk);
    ASSERT_EQ(call(fuse_message(FUSE_INIT, 0, fuse_init_request())).error(), 0);
  }
  FakeDriver::Request send(const Bytes& message, uint32_t room_bytes = 4096) {
    const auto request = requests_->chain().readable(message).writable(room_bytes).publish();
    registers_->kick(1);
    return request;
  }
  FuseAnswer call(const Bytes& message, uint32_t room_bytes = 4096) {
    const auto request = send(message, room_bytes);
    const auto used = fakes::await_used(*requests_);
    EXPECT_EQ(used.head, request.head);
    return FuseAnswer::of(request.writable[0].first(used.written_bytes));
  }

  const fakes::TempDir dir_;
  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<share::Tree> tree_;
  std::unique_ptr<Fs> fs_;
  fakes::CountingLine line_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
  std::optional<FakeDriver> hiprio_;
  std::optional<FakeDriver> requests_;
};

TEST_F(FsTest, TellsItsTagAndTheNumberOfItsQueues) {
  std::array<std::byte, 40> config;
  fs_->read_config(0, config);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(config.data())), "the-tag");
  EXPECT_EQ(load_le<uint32_t>(std::span(config).subspan<36, 4>()), 1u);
}

TEST_F(FsTest, ServesRequestsAndInterruptsTheGuest) {
  dir_.write("file", "text");
  start();
  const auto entry = call(fuse_message(FUSE_LOOKUP, FUSE_ROOT_ID, "file")).as<fuse_entry_out>();
  EXPECT_EQ(entry.attr.size, 4u);
  // One, as long as the driver does not acknowledge it.
  EXPECT_TRUE(wait_for([&] { return line_.pulses() == 1; }));
}

TEST_F(FsTest, ForgetsOnTheQueueOfHighPriority) {
  dir_.write("file", "text");
  start();
  const auto entry = call(fuse_message(FUSE_LOOKUP, FUSE_ROOT_ID, "file")).as<fuse_entry_out>();
  EXPECT_EQ(tree_->usage().nodes, 2u);
  fuse_forget_in in{};
  in.nlookup = 1;
  (void)hiprio_->chain().readable(fuse_message(FUSE_FORGET, entry.nodeid, in)).publish();
  registers_->kick(0);
  EXPECT_EQ(fakes::await_used(*hiprio_).written_bytes, 0u);
  EXPECT_EQ(tree_->usage().nodes, 1u);
}

TEST_F(FsTest, AnswersManyRequestsAtOnce) {
  start();
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 60; ++i)
      (void)requests_->chain()
          .readable(fuse_message(FUSE_LOOKUP, 1, "none"))
          .writable(64)
          .publish();
    registers_->kick(1);
    for (int i = 0; i < 60; ++i) EXPECT_EQ(fakes::await_used(*requests_).written_bytes, 16u);
  }
}

TEST_F(FsTest, ForgetsAllAtAReset) {
  dir_.write("file", "text");
  start();
  const auto entry = call(fuse_message(FUSE_LOOKUP, FUSE_ROOT_ID, "file")).as<fuse_entry_out>();
  (void)call(fuse_message(FUSE_OPEN, entry.nodeid, fuse_open_in{}));
  EXPECT_EQ(tree_->usage().descriptors, 3u);
  registers_->reset();
  EXPECT_EQ(tree_->usage().descriptors, 1u);
  start();
  EXPECT_EQ(call(fuse_message(FUSE_GETATTR, entry.nodeid, fuse_getattr_in{})).error(), ESTALE);
}

TEST_F(FsTest, AResetWaitsForTheRequestsInFlight) {
  start();
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 60; ++i) (void)send(fuse_message(FUSE_LOOKUP, 1, "none"), 64);
    registers_->reset();
    // The memory is the driver's again.
    auto area = requests_->host(requests_->buffer_area(), 64 << 10);
    std::ranges::fill(area, std::byte{0x5a});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_TRUE(std::ranges::all_of(area, [](std::byte b) { return b == std::byte{0x5a}; }));
    start();
  }
}

TEST_F(FsTest, HoldsRequestsWhileTheMachineIsPaused) {
  start();
  fs_->pause();
  fs_->pause();
  const auto request = send(fuse_message(FUSE_LOOKUP, 1, "none"), 64);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(requests_->take_used());
  EXPECT_EQ(request.writable[0][0], std::byte{0xee});
  fs_->resume();
  fs_->resume();
  EXPECT_EQ(fakes::await_used(*requests_).written_bytes, 16u);
}

TEST_F(FsTest, AsksForAResetWhenTheRingIsBroken) {
  start();
  requests_->set_available_index(30000);
  registers_->kick(1);
  EXPECT_TRUE(wait_for([&] { return (registers_->status() & MmioDriver::kNeedsReset) != 0; }));
  registers_->reset();
  start();
}

TEST_F(FsTest, GivesBackChainsThatAreNoRequests) {
  start();
  (void)requests_->chain().writable(100).publish();
  (void)requests_->chain().readable("too short").writable(100).publish();
  (void)requests_->chain().readable(fuse_message(FUSE_LOOKUP, 1, "none")).publish();
  registers_->kick(1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(fakes::await_used(*requests_).written_bytes, 0u);
}

}  // namespace
}  // namespace wick::virtio
