// Tests the virtio socket device over a kernel that only notes what it is told. The host's kernel
// itself: VhostVsockTest, which needs /dev/vhost-vsock, as in the lab after `modprobe vhost_vsock`
// (tests/lab/lab build/virtio_tests --gtest_filter='VhostVsock*').
#include "virtio/vsock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_vsock.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/virtio/running_device_fixture.h"
#include "virtio/vhost_vsock.h"

namespace wick::virtio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint32_t kCid = 0x1234'5678;

// Notes what the device asks of it, and that it never changes rings that are in use.
class NotingKernel final : public VsockKernel {
 public:
  uint64_t features() const override { return feature_bit(VIRTIO_VSOCK_F_SEQPACKET); }
  Result<void> add_ring(uint64_t features, ActiveQueue queue, DriverNotifier&) override {
    EXPECT_FALSE(running_);
    features_ = features;
    log_.push_back(fmt::format("add {} of {}", queue.index, queue.ring.size()));
    if (refuses_rings) return fail("no ring");
    rings_[queue.index].emplace(std::move(queue));
    return {};
  }
  void remove_ring(unsigned ring) override {
    EXPECT_FALSE(running_);
    log_.push_back(fmt::format("remove {}", ring));
    rings_[ring].reset();
  }
  Result<void> set_running(bool running) override {
    EXPECT_NE(running, running_);
    if (running) {
      EXPECT_TRUE(rings_[0] && rings_[1]);
    }
    log_.emplace_back(running ? "run" : "stop");
    if (running && refuses_to_run) return fail("does not run");
    running_ = running;
    return {};
  }

  std::vector<std::string> take_log() { return std::exchange(log_, {}); }
  uint64_t driver_features() const { return features_; }
  bool running() const { return running_; }

  bool refuses_rings = false;
  bool refuses_to_run = false;

 private:
  std::array<std::optional<ActiveQueue>, 2> rings_;
  uint64_t features_ = 0;
  bool running_ = false;
  std::vector<std::string> log_;
};

class VsockTest : public RunningDevice {
 protected:
  VsockTest() {
    auto kernel = std::make_unique<NotingKernel>();
    kernel_ = kernel.get();
    vsock_.emplace(loop(), kCid, std::move(kernel));
    plug(*vsock_);
  }
  ~VsockTest() override {
    if (plugged_) regs().reset();
    plugged_.reset();
    vsock_.reset();
    thread_->stop();
  }
  std::vector<std::string> log() { return kernel_->take_log(); }

  NotingKernel* kernel_ = nullptr;
  std::optional<Vsock> vsock_;
};

TEST_F(VsockTest, TellsItsCidAndNothingMore) {
  EXPECT_EQ(vsock_->id(), 19u);
  std::array<std::byte, 16> config{};
  config.fill(std::byte{0xee});
  vsock_->read_config(0, config);
  EXPECT_EQ(load_le<uint64_t>(config), kCid);
  EXPECT_EQ(load_le<uint64_t>(std::span(config).subspan(8)), 0u);
  vsock_->read_config(~0ull, config);
  EXPECT_EQ(load_le<uint64_t>(config), 0u);
}

TEST_F(VsockTest, LetsTheKernelServeTheRingsButNotTheEventQueue) {
  start();
  EXPECT_THAT(log(), ElementsAre("add 0 of 16", "add 1 of 16", "run"));
  EXPECT_NE(kernel_->driver_features() & feature_bit(VIRTIO_VSOCK_F_SEQPACKET), 0u);
  (void)queue(2).chain().writable(8).publish();
  regs().kick(2);
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(VsockTest, StopsTheKernelBeforeAResetReturns) {
  start();
  (void)log();
  regs().reset();
  EXPECT_THAT(log(), ElementsAre("stop", "remove 0", "remove 1"));
  regs().reset();
  EXPECT_THAT(log(), IsEmpty());
  start();
  EXPECT_THAT(log(), ElementsAre("add 0 of 16", "add 1 of 16", "run"));
}

TEST_F(VsockTest, StopsTheKernelWithoutTheBusMaster) {
  start();
  regs().set_bus_master(false);
  EXPECT_FALSE(kernel_->running());
  expect_nothing_until_restarted();
  EXPECT_TRUE(kernel_->running());
}

TEST_F(VsockTest, StandsStillWhileAQueueIsAway) {
  start();
  (void)log();
  replace_queue(0, 8);
  EXPECT_THAT(log(), ElementsAre("stop", "remove 0", "add 0 of 8", "run"));
  replace_queue(2, 8);
  EXPECT_THAT(log(), IsEmpty()) << "the event queue is not the kernel's";
}

TEST_F(VsockTest, RunsOnlyWithBothRings) {
  ASSERT_EQ(regs().negotiate(regs().device_features()), PciDriver::kFeaturesOk);
  drivers_.emplace_back(*memory_, options(0, 16));
  regs().set_queue(1, drivers_.back().layout());
  regs().set_status(PciDriver::kDriverOk);
  EXPECT_THAT(log(), ElementsAre("add 1 of 16"));
  regs().reset();
  EXPECT_THAT(log(), ElementsAre("remove 1"));
}

TEST_F(VsockTest, WritesNothingWhileItIsHeld) {
  const auto hold = [this](bool held) { loop().call([&] { vsock_->hold(held); }); };
  start();
  (void)log();
  hold(true);
  hold(true);
  EXPECT_THAT(log(), ElementsAre("stop"));
  hold(false);
  hold(false);
  EXPECT_THAT(log(), ElementsAre("run"));
  hold(true);
  regs().reset();
  start();
  EXPECT_FALSE(kernel_->running()) << "a driver that starts while the machine is paused waits";
  hold(false);
  EXPECT_TRUE(kernel_->running());
}

TEST_F(VsockTest, NeedsAResetIfTheKernelRefuses) {
  kernel_->refuses_to_run = true;
  start();
  EXPECT_NE(regs().status() & PciDriver::kNeedsReset, 0);
  regs().reset();
  kernel_->refuses_to_run = false;
  kernel_->refuses_rings = true;
  start();
  EXPECT_NE(regs().status() & PciDriver::kNeedsReset, 0);
  regs().reset();
  kernel_->refuses_rings = false;
  start();
  EXPECT_EQ(regs().status(), PciDriver::kDriverOk);
  EXPECT_TRUE(kernel_->running());
}

TEST(VhostVsockTest, HasACidThatNoOtherMachineHas) {
  const auto loop = EventLoop::create().value();
  auto first = VhostVsock::open(*loop, 4711, "vsock");
  if (!first) GTEST_SKIP() << first.error().message();
  const auto second = VhostVsock::open(*loop, 4711, "vsock");
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), HasSubstr("--vsock 4711: another machine"));
  EXPECT_TRUE(VhostVsock::open(*loop, 4712, "vsock"));
  first->reset();
  EXPECT_TRUE(VhostVsock::open(*loop, 4711, "vsock")) << "it is free again";
}

class VhostVsockOnPci : public RunningDevice {
 protected:
  ~VhostVsockOnPci() override {
    if (plugged_) regs().reset();
    plugged_.reset();
    vsock_.reset();
    thread_->stop();
  }
  std::optional<Vsock> vsock_;
};

TEST_F(VhostVsockOnPci, RunsAndStopsInTheKernel) {
  auto kernel = VhostVsock::open(loop(), 4713, "vsock");
  if (!kernel) GTEST_SKIP() << kernel.error().message();
  vsock_.emplace(loop(), 4713, *std::move(kernel));
  plug(*vsock_);
  start();
  EXPECT_EQ(regs().status(), PciDriver::kDriverOk);
  replace_queue(1, 8);
  regs().set_bus_master(false);
  expect_nothing_until_restarted();
}

}  // namespace
}  // namespace wick::virtio
