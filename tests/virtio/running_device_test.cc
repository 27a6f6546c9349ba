// Tests how a driver stops parts of a running device: all access to guest memory, by the
// Bus Master bit (PCI 3.0, 6.2.2), or one queue, by its reset (virtio 1.2, 2.6.1). Disks and
// network cards: running_disk_test.cc, running_card_test.cc.
#include <gtest/gtest.h>

#include <memory>
#include <string_view>

#include "tests/fakes/fake_console.h"
#include "tests/fakes/temp_dir.h"
#include "tests/virtio/fuse_client.h"
#include "tests/virtio/running_device_fixture.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/fs.h"
#include "virtio/input.h"
#include "virtio/rng.h"

namespace wick::virtio {
namespace {

class RunningConsole : public RunningDevice {
 protected:
  RunningConsole() {
    plug(console_);
    start();
  }
  ~RunningConsole() override { unplug(); }

  size_t type(std::string_view text) {
    size_t taken = 0;
    loop().call([&] { taken = host_.type(text); });
    return taken;
  }
  FakeDriver::Request post() {
    const auto request = queue(0).chain().writable(64).publish();
    regs().kick(0);
    return request;
  }
  FakeDriver::Request print(std::string_view text) {
    const auto request = queue(1).chain().readable(text).publish();
    regs().kick(1);
    return request;
  }

  fakes::FakeConsole host_;
  Console console_{loop(), {{.backend = host_}}};
};

TEST_F(RunningConsole, TakesAndGivesNothingWithoutTheBusMaster) {
  (void)post();
  regs().set_bus_master(false);
  (void)print("hello");
  EXPECT_EQ(type("typed"), 0u);
  EXPECT_TRUE(leaves_memory_alone());
  expect_nothing_until_restarted();
  EXPECT_EQ(host_.output(), "");
  const auto line = print("hello");
  EXPECT_EQ(take_used(1).head, line.head);
  EXPECT_EQ(host_.output(), "hello");
  const auto buffer = post();
  EXPECT_TRUE(wait_for([&] { return host_.times_wanted() == 1; })) << "for what was refused";
  EXPECT_EQ(type("typed"), 5u);
  EXPECT_EQ(take_used(0), (FakeDriver::Used{buffer.head, 5}));
}

TEST_F(RunningConsole, ItsQueuesStartAgain) {
  (void)post();
  replace_queue(0, 8);
  replace_queue(1, 4);
  EXPECT_EQ(type("typed"), 0u) << "the buffer is gone";
  const auto buffer = post();
  EXPECT_TRUE(wait_for([&] { return host_.times_wanted() == 1; }));
  EXPECT_EQ(type("typed"), 5u);
  EXPECT_EQ(take_used(0).head, buffer.head);
  const auto line = print("hello");
  EXPECT_EQ(take_used(1).head, line.head);
  EXPECT_EQ(host_.output(), "hello");
}

class RunningRng : public RunningDevice {
 protected:
  RunningRng() {
    plug(*rng_);
    start();
  }
  ~RunningRng() override { unplug(); }
  FakeDriver::Request ask() {
    const auto request = queue(0).chain().writable(64).publish();
    regs().kick(0);
    return request;
  }
  std::unique_ptr<Rng> rng_ = Rng::create(loop(), "").value();
};

TEST_F(RunningRng, FillsNothingWithoutTheBusMaster) {
  regs().set_bus_master(false);
  const auto request = ask();
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(request.writable[0]));
  expect_nothing_until_restarted();
  EXPECT_EQ(take_used(0).head, ask().head);
}

TEST_F(RunningRng, ItsQueueStartsAgain) {
  replace_queue(0, 64);
  EXPECT_EQ(take_used(0).head, ask().head);
}

class RunningFs : public RunningDevice {
 protected:
  RunningFs() {
    share::TreeOptions options;
    options.path = dir_.path();
    tree_ = share::Tree::open(options).value();
    fs_ = Fs::create(*tree_, loop(), "tag", FuseCache::kAuto).value();
    plug(*fs_);
    start();
  }
  ~RunningFs() override {
    unplug();
    fs_.reset();
  }
  FakeDriver::Request ask() {
    const Bytes init = fuse_message(FUSE_INIT, 0, fuse_init_request());
    const auto request = queue(1).chain().readable(init).writable(128).publish();
    regs().kick(1);
    return request;
  }
  const fakes::TempDir dir_;
  std::unique_ptr<share::Tree> tree_;
  std::unique_ptr<Fs> fs_;
};

TEST_F(RunningFs, AnswersNothingWithoutTheBusMaster) {
  regs().set_bus_master(false);
  const auto request = ask();
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(request.writable[0]));
  expect_nothing_until_restarted();
  EXPECT_EQ(take_used(1).head, ask().head);
}

TEST_F(RunningFs, ItsQueuesStartAgain) {
  replace_queue(1, 512);
  EXPECT_EQ(take_used(1).head, ask().head);
}

class RunningBalloon : public RunningDevice {
 protected:
  static constexpr uint16_t kReporting = 2;
  static constexpr GuestAddress kFree{0x300000};

  RunningBalloon() {
    plug(balloon_);
    start();
    std::ranges::fill(free_pages(), std::byte{0xaa});
  }
  ~RunningBalloon() override { unplug(); }
  std::span<std::byte> free_pages() { return memory_->slice(kFree, 4096).value(); }
  FakeDriver::Request report() {
    const auto request = queue(kReporting).chain().writable_at(kFree, 4096).publish();
    regs().kick(kReporting);
    return request;
  }
  Balloon balloon_{*memory_, loop()};
};

TEST_F(RunningBalloon, TakesNoMemoryWithoutTheBusMaster) {
  regs().set_bus_master(false);
  (void)report();
  EXPECT_TRUE(leaves_memory_alone());
  expect_nothing_until_restarted();
  EXPECT_EQ(free_pages()[0], std::byte{0xaa});
  EXPECT_EQ(take_used(kReporting).head, report().head);
  EXPECT_EQ(free_pages()[0], std::byte{0});
}

TEST_F(RunningBalloon, ItsQueueStartsAgain) {
  replace_queue(kReporting, 8);
  EXPECT_EQ(take_used(kReporting).head, report().head);
}

class RunningInput : public RunningDevice {
 protected:
  static constexpr uint16_t kEvents = 0;

  RunningInput() {
    plug(*input_);
    start();
  }
  ~RunningInput() override { unplug(); }
  // Gives buffers for a key and its SYN_REPORT.
  FakeDriver::Request give() {
    const auto request = queue(kEvents).chain().writable(8).publish();
    (void)queue(kEvents).chain().writable(8).publish();
    regs().kick(kEvents);
    EXPECT_TRUE(wait_for([&] { return input_->active(); }));
    return request;
  }
  std::unique_ptr<Input> input_ = Input::create(loop(), Input::Kind::kKeyboard).value();
};

TEST_F(RunningInput, SendsNoKeyWithoutTheBusMaster) {
  const auto request = give();
  regs().set_bus_master(false);
  EXPECT_FALSE(input_->active());
  input_->key(KEY_A, true);
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(request.writable[0]));
  expect_nothing_until_restarted();
  const auto buffer = give();
  input_->key(KEY_A, true);
  EXPECT_EQ(take_used(kEvents), (FakeDriver::Used{buffer.head, 8}));
}

TEST_F(RunningInput, ItsQueuesStartAgain) {
  (void)give();
  replace_queue(kEvents, 8);
  replace_queue(1, 8);
  EXPECT_FALSE(input_->active()) << "the buffers are gone";
  const auto buffer = give();
  input_->key(KEY_A, true);
  EXPECT_EQ(take_used(kEvents), (FakeDriver::Used{buffer.head, 8}));
}

}  // namespace
}  // namespace wick::virtio
