// Tests virtio-input through the MMIO registers and the rings, with the device on a loop of its
// own.
#include "virtio/input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/input.h>

#include <cstring>
#include <deque>
#include <thread>

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
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class InputTest : public testing::Test {
 protected:
  enum Queue : uint16_t { kEvents, kStatus };

  InputTest() {
    memory_.emplace(memory_of(16 << 20));
    thread_ = LoopThread::start("input-test").value();
  }
  ~InputTest() override {
    if (registers_) registers_->reset();
    thread_->stop();
  }

  void make(Input::Kind kind) {
    input_ = Input::create(thread_->loop(), kind, [this](uint8_t leds) { leds_ = leds; }).value();
    transport_ = MmioTransport::create(*input_, *memory_, line_, "input").value();
    registers_.emplace(*transport_);
  }
  void start() {
    drivers_.clear();
    requests_.clear();
    ASSERT_EQ(regs().negotiate(regs().device_features() & ~feature_bit(VIRTIO_RING_F_EVENT_IDX)),
              MmioDriver::kFeaturesOk);
    for (uint16_t i = 0; i < 2; ++i) {
      drivers_.emplace_back(*memory_, FakeDriver::Options{.size = 64,
                                                          .base = {0x10000 + i * 0x200000ull},
                                                          .buffer_area_bytes = 0x180000});
      regs().set_queue(i, drivers_.back().layout());
    }
    regs().set_status(MmioDriver::kDriverOk);
    ASSERT_EQ(regs().status(), MmioDriver::kDriverOk);
  }
  void start(Input::Kind kind, size_t buffers) {
    make(kind);
    start();
    give(buffers);
    settle();
  }

  const MmioDriver& regs() const { return *registers_; }
  FakeDriver& queue(uint16_t index) { return drivers_[index]; }
  void give(size_t buffers, uint32_t size_bytes = sizeof(virtio_input_event)) {
    for (size_t i = 0; i < buffers; ++i) {
      auto request = queue(kEvents).chain().writable(size_bytes).publish();
      const uint16_t head = request.head;
      requests_[head] = std::move(request);
    }
    if (queue(kEvents).kick_wanted()) regs().kick(kEvents);
  }
  void settle() {
    for (int i = 0; i < 20; ++i) thread_->loop().call([] {});
  }
  // All events that came, as "type/code/value".
  std::vector<std::string> events() {
    settle();
    std::vector<std::string> all;
    while (const auto used = queue(kEvents).take_used()) {
      EXPECT_EQ(used->written_bytes, sizeof(virtio_input_event));
      virtio_input_event event{};
      std::memcpy(&event, requests_[static_cast<uint16_t>(used->head)].writable[0].data(),
                  sizeof(event));
      all.push_back(
          fmt::format("{}/{}/{}", event.type, event.code, static_cast<int32_t>(event.value)));
    }
    return all;
  }
  void send_status(uint16_t type, uint16_t code, uint32_t value) {
    const virtio_input_event event{.type = type, .code = code, .value = value};
    (void)queue(kStatus).chain().readable(as_bytes(&event, sizeof(event))).publish();
    regs().kick(kStatus);
    EXPECT_EQ(fakes::await_used(queue(kStatus)).written_bytes, 0u);
  }

  // The configuration space, as Linux's virtinput_cfg_select() uses it.
  size_t select(uint8_t select, uint8_t subsel) {
    regs().set_config(0, select, 1);
    regs().set_config(1, subsel, 1);
    return regs().config(2, 1);
  }
  std::string payload(uint8_t what, uint8_t which = 0) {
    std::string bytes(select(what, which), '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(regs().config(8 + i, 1));
    return bytes;
  }
  std::vector<int> bits(uint8_t type) {
    std::vector<int> all;
    const std::string bitmap = payload(VIRTIO_INPUT_CFG_EV_BITS, type);
    for (size_t i = 0; i < 8 * bitmap.size(); ++i)
      if ((bitmap[i / 8] >> i % 8 & 1) != 0) all.push_back(static_cast<int>(i));
    return all;
  }

  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  std::deque<FakeDriver> drivers_;
  std::map<uint16_t, FakeDriver::Request> requests_;
  fakes::CountingLine line_;
  std::atomic<int> leds_ = -1;
  std::unique_ptr<Input> input_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
};

TEST_F(InputTest, AKeyboardDescribesItself) {
  make(Input::Kind::kKeyboard);
  EXPECT_EQ(regs().device_id(), 18u);
  EXPECT_EQ(payload(VIRTIO_INPUT_CFG_ID_NAME), "wick virtio keyboard");
  EXPECT_EQ(payload(VIRTIO_INPUT_CFG_ID_SERIAL), "keyboard");
  EXPECT_EQ(payload(VIRTIO_INPUT_CFG_ID_DEVIDS), std::string("\x06\0\xf4\x1a\x01\0\x01\0", 8));
  EXPECT_EQ(payload(VIRTIO_INPUT_CFG_PROP_BITS), "") << "it has no properties";
  const auto keys = bits(EV_KEY);
  for (const int key : {KEY_ESC, KEY_A, KEY_KPENTER, KEY_YEN, KEY_RO, KEY_SYSRQ, KEY_MUTE})
    EXPECT_THAT(keys, testing::Contains(key));
  EXPECT_THAT(keys, testing::Not(testing::Contains(int{BTN_LEFT}))) << "or it would be a mouse";
  EXPECT_THAT(bits(EV_LED), ElementsAre(LED_NUML, LED_CAPSL, LED_SCROLLL));
  EXPECT_EQ(select(VIRTIO_INPUT_CFG_EV_BITS, EV_REP), 1u) << "Linux repeats keys";
  EXPECT_EQ(select(VIRTIO_INPUT_CFG_EV_BITS, EV_ABS), 0u);
  EXPECT_EQ(select(VIRTIO_INPUT_CFG_EV_BITS, EV_REL), 0u);
  EXPECT_EQ(select(VIRTIO_INPUT_CFG_ABS_INFO, ABS_X), 0u);
}

TEST_F(InputTest, ATabletDescribesItself) {
  make(Input::Kind::kTablet);
  EXPECT_EQ(payload(VIRTIO_INPUT_CFG_ID_NAME), "wick virtio tablet");
  EXPECT_THAT(bits(EV_KEY), ElementsAre(BTN_LEFT, BTN_RIGHT, BTN_MIDDLE));
  EXPECT_THAT(bits(EV_REL), ElementsAre(REL_WHEEL));
  EXPECT_THAT(bits(EV_ABS), ElementsAre(ABS_X, ABS_Y));
  EXPECT_EQ(select(VIRTIO_INPUT_CFG_EV_BITS, EV_REP), 0u);
  for (const uint8_t axis : std::to_array<uint8_t>({ABS_X, ABS_Y})) {
    ASSERT_EQ(select(VIRTIO_INPUT_CFG_ABS_INFO, axis), sizeof(virtio_input_absinfo));
    EXPECT_EQ(regs().config(8, 4), 0u);
    EXPECT_EQ(regs().config(12, 4), 32767u);
    for (const uint64_t offset : {16u, 20u, 24u}) EXPECT_EQ(regs().config(offset, 4), 0u);
  }
  EXPECT_EQ(select(VIRTIO_INPUT_CFG_ABS_INFO, ABS_Z), 0u);
}

TEST_F(InputTest, WhatItDoesNotHaveIsEmpty) {
  make(Input::Kind::kKeyboard);
  EXPECT_EQ(regs().config(0, 4), 0u);
  for (int what = 0; what < 256; ++what) {
    for (const uint8_t which : std::to_array<uint8_t>({0, 1, 5, 31, 255})) {
      const size_t size = select(static_cast<uint8_t>(what), which);
      EXPECT_LE(size, 128u);
      EXPECT_EQ(regs().config(0, 1), static_cast<uint64_t>(what));
      EXPECT_EQ(regs().config(1, 1), which);
      EXPECT_EQ(regs().config(3, 4), 0u) << "reserved";
      for (size_t i = size; i < 160; i += 8) EXPECT_EQ(regs().config(8 + i, 1), 0u);
    }
  }
  regs().set_config(0, 0x0101010101010101, 8);
  EXPECT_EQ(regs().config(2, 1), 0u) << "the other bytes cannot be written";
}

TEST_F(InputTest, SelectsNothingAfterAReset) {
  make(Input::Kind::kKeyboard);
  EXPECT_GT(select(VIRTIO_INPUT_CFG_ID_NAME, 0), 0u);
  regs().reset();
  EXPECT_EQ(regs().config(0, 4), 0u);
}

TEST_F(InputTest, SendsKeysAsGroups) {
  start(Input::Kind::kKeyboard, 64);
  input_->key(KEY_A, true);
  input_->key(KEY_A, true);  // the guest repeats keys itself
  input_->key(KEY_A, false);
  EXPECT_THAT(events(), ElementsAre("1/30/1", "0/0/0", "1/30/0", "0/0/0"));
  EXPECT_TRUE(wait_for([&] { return line_.pulses() >= 1; }));
  input_->key(KEY_A, false);
  input_->key(BTN_LEFT, true);
  input_->key(0xffff, true);
  input_->move_to(1, 1);
  input_->scroll(1);
  EXPECT_THAT(events(), IsEmpty()) << "a keyboard has nothing but keys";
}

TEST_F(InputTest, SendsPositionsButtonsAndTheWheel) {
  start(Input::Kind::kTablet, 64);
  input_->move_to(100, 200);
  EXPECT_THAT(events(), ElementsAre("3/0/100", "3/1/200", "0/0/0"));
  input_->key(BTN_LEFT, true);
  input_->key(BTN_LEFT, false);
  EXPECT_THAT(events(), ElementsAre("1/272/1", "0/0/0", "1/272/0", "0/0/0"));
  input_->scroll(-2);
  EXPECT_THAT(events(), ElementsAre("2/8/-2", "0/0/0"));
  input_->move_to(0xffff, 0x8000);
  EXPECT_THAT(events(), ElementsAre("3/0/32767", "3/1/32767", "0/0/0"));
  input_->key(KEY_A, true);
  input_->scroll(0);
  EXPECT_THAT(events(), IsEmpty());
}

TEST_F(InputTest, IsActiveOnceTheDriverHasGivenBuffers) {
  make(Input::Kind::kKeyboard);
  EXPECT_FALSE(input_->active());
  start();
  settle();
  EXPECT_FALSE(input_->active()) << "a driver that has no buffers cannot get events";
  input_->key(KEY_A, true);
  give(4);
  EXPECT_TRUE(wait_for([&] { return input_->active(); }));
  EXPECT_THAT(events(), IsEmpty()) << "the key was pressed for nobody";
  regs().reset();
  EXPECT_FALSE(input_->active());
}

TEST_F(InputTest, SendsWholeGroupsOnly) {
  start(Input::Kind::kTablet, 2);
  input_->move_to(1, 2);  // three events
  EXPECT_THAT(events(), IsEmpty());
  give(1);
  EXPECT_THAT(events(), ElementsAre("3/0/1", "3/1/2", "0/0/0"));
}

TEST_F(InputTest, KeepsTheOrderWhileItWaitsForBuffers) {
  start(Input::Kind::kTablet, 1);
  input_->move_to(1, 1);
  input_->move_to(2, 2);
  input_->key(BTN_LEFT, true);
  input_->move_to(3, 3);
  input_->move_to(4, 4);
  input_->scroll(1);
  input_->scroll(2);
  input_->key(BTN_LEFT, false);
  EXPECT_THAT(events(), IsEmpty());
  give(30);
  EXPECT_THAT(events(), ElementsAre("3/0/2", "3/1/2", "0/0/0", "1/272/1", "0/0/0", "3/0/4", "3/1/4",
                                    "0/0/0", "2/8/3", "0/0/0", "1/272/0", "0/0/0"))
      << "movements are merged";
}

TEST_F(InputTest, WritesNothingWhileItIsHeld) {
  start(Input::Kind::kKeyboard, 8);
  thread_->loop().call([this] { input_->hold(true); });
  input_->key(KEY_A, true);
  input_->key(KEY_A, false);
  EXPECT_THAT(events(), testing::IsEmpty());
  thread_->loop().call([this] { input_->hold(false); });
  EXPECT_EQ(events().size(), 4u);
}

TEST_F(InputTest, DropsPressesButNoReleaseWithoutBuffers) {
  start(Input::Kind::kKeyboard, 2);
  input_->key(KEY_A, true);
  EXPECT_THAT(events(), ElementsAre("1/30/1", "0/0/0"));
  for (int i = 0; i < 1000; ++i) {
    input_->key(KEY_B, true);
    input_->key(KEY_B, false);
  }
  input_->key(KEY_C, true);
  input_->key(KEY_A, false);
  input_->key(KEY_C, false);
  EXPECT_THAT(events(), IsEmpty());
  std::vector<std::string> all;
  while (queue(kEvents).has_descriptors(32)) {
    give(32);
    for (auto& event : events()) all.push_back(event);
  }
  EXPECT_LE(all.size(), 2 * (Input::kMaxWaitingGroups + 2));
  EXPECT_EQ(std::ranges::count(all, "1/48/1"), std::ranges::count(all, "1/48/0"));
  EXPECT_EQ(std::ranges::count(all, "1/46/1"), 0) << "there was no room";
  EXPECT_EQ(std::ranges::count(all, "1/30/0"), 1) << "or the key would be held for ever";
}

TEST_F(InputTest, ForgetsKeysAtAReset) {
  start(Input::Kind::kKeyboard, 8);
  input_->key(KEY_A, true);
  regs().reset();
  start();
  give(8);
  settle();
  input_->key(KEY_A, false);
  EXPECT_THAT(events(), IsEmpty()) << "the new driver knows of no press";
  input_->key(KEY_A, true);
  EXPECT_THAT(events(), ElementsAre("1/30/1", "0/0/0"));
}

TEST_F(InputTest, GivesBackBuffersThatAreTooSmall) {
  start(Input::Kind::kKeyboard, 0);
  give(1, 7);
  EXPECT_EQ(fakes::await_used(queue(kEvents)).written_bytes, 0u);
  give(2, 20);
  settle();
  input_->key(KEY_A, true);
  EXPECT_THAT(events(), ElementsAre("1/30/1", "0/0/0"));
}

TEST_F(InputTest, WritesAnEventAcrossBuffers) {
  start(Input::Kind::kKeyboard, 0);
  const auto request = queue(kEvents).chain().writable(3).writable(0).writable(5).publish();
  (void)queue(kEvents).chain().writable(8).publish();
  regs().kick(kEvents);
  settle();
  input_->key(KEY_A, true);
  EXPECT_EQ(fakes::await_used(queue(kEvents)), (FakeDriver::Used{request.head, 8}));
  EXPECT_EQ(request.writable[0][2], std::byte{30});
  EXPECT_EQ(request.writable[2][1], std::byte{1});
}

TEST_F(InputTest, TellsOfItsLeds) {
  start(Input::Kind::kKeyboard, 8);
  send_status(EV_LED, LED_CAPSL, 1);
  EXPECT_TRUE(wait_for([&] { return leds_ == devices::kCapsLock; }));
  send_status(EV_LED, LED_NUML, 1);
  EXPECT_TRUE(wait_for([&] { return leds_ == (devices::kCapsLock | devices::kNumLock); }));
  send_status(EV_LED, LED_CAPSL, 0);
  EXPECT_TRUE(wait_for([&] { return leds_ == devices::kNumLock; }));
  send_status(EV_LED, 99, 1);
  send_status(EV_SND, LED_SCROLLL, 1);
  (void)queue(kStatus).chain().readable("short").publish();
  regs().kick(kStatus);
  EXPECT_EQ(fakes::await_used(queue(kStatus)).written_bytes, 0u);
  EXPECT_EQ(leds_, devices::kNumLock);
}

TEST_F(InputTest, AsksForAResetWhenTheRingIsBroken) {
  start(Input::Kind::kKeyboard, 8);
  queue(kEvents).set_available_index(1000);
  regs().kick(kEvents);
  EXPECT_TRUE(wait_for([&] { return (regs().status() & MmioDriver::kNeedsReset) != 0; }));
  EXPECT_TRUE(wait_for([&] { return !input_->active(); })) << "so that another keyboard is used";
  input_->key(KEY_A, true);
  regs().reset();
  start();
  give(8);
  settle();
  input_->key(KEY_A, true);
  EXPECT_THAT(events(), ElementsAre("1/30/1", "0/0/0"));
}

TEST_F(InputTest, AStopOfItsQueueDropsWhatWaits) {
  start(Input::Kind::kTablet, 1);
  input_->move_to(1, 1);
  thread_->loop().call([&] { input_->stop_queue(kEvents); });
  EXPECT_FALSE(input_->active());
  input_->key(BTN_LEFT, true);
  EXPECT_TRUE(queue(kEvents).take_used().has_value()) << "the buffer is returned";
}

// Several threads press keys while the driver resets the device again and again.
TEST_F(InputTest, TakesKeysFromAnyThread) {
  start(Input::Kind::kKeyboard, 64);
  std::atomic<bool> stop = false;
  std::vector<std::jthread> hosts;
  for (uint16_t key = KEY_Q; key <= KEY_R; ++key)
    hosts.emplace_back([&, key] {
      while (!stop) {
        input_->key(key, true);
        input_->key(key, false);
      }
    });
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(wait_for([&] { return queue(kEvents).take_used().has_value(); }));
    regs().reset();
    start();
    give(64);
  }
  stop = true;
}

}  // namespace
}  // namespace wick::virtio
