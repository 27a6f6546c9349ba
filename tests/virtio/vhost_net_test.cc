// Tests vhost-net in the kernel. Needs root, /dev/net/tun and /dev/vhost-net, as in the
// lab (tests/lab/lab build/tests/virtio_tests --gtest_filter='VhostNet*').
#include "virtio/vhost_net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "devices/pci/interrupts.h"
#include "net/tap.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/recording_sink.h"
#include "tests/fakes/registers.h"
#include "tests/fakes/wait_for.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::wait_for;

class Notifier final : public DriverNotifier {
 public:
  void queue_interrupt(uint16_t) override {}
  void config_changed() override {}
  void needs_reset() override { ++resets; }
  std::atomic<int> resets = 0;
};

// The interrupts of a queue as PciTransport has them, with one vector.
class PciNotifier final : public DriverNotifier {
 public:
  void queue_interrupt(uint16_t) override { interrupts.send(0); }
  void config_changed() override {}
  void needs_reset() override {}
  void connect_interrupt(uint16_t, const EventFd& event) override { interrupts.connect(0, event); }
  void disconnect_interrupt(const EventFd& event) override { interrupts.disconnect(event); }

  void set_vector(uint64_t address, uint64_t data) {
    fakes::write_register(interrupts, 0, address, 8);
    fakes::write_register(interrupts, 8, data, 8);
  }

  fakes::CountingLine line;
  fakes::RecordingSink sink;
  devices::PciInterrupts interrupts{1, line, sink};
};

TEST(VhostCallTest, InterruptsThroughTheLoopWhileTheKernelCannot) {
  using Message = fakes::RecordingSink::Message;
  const auto thread = LoopThread::start("vhost-test").value();
  EventLoop& loop = thread->loop();
  PciNotifier notifier;
  notifier.interrupts.configure({.msix_control = PCI_MSIX_FLAGS_ENABLE});
  notifier.set_vector(0xfee0'0000, 1);
  std::unique_ptr<VhostCall> call;
  loop.call([&] { call = VhostCall::create(loop, notifier, 0).value(); });
  EXPECT_EQ(notifier.sink.connected(call->event()), (Message{0xfee0'0000, 1}));

  notifier.sink.can_connect = false;
  notifier.set_vector(0xfee0'1000, 2);
  EXPECT_EQ(notifier.sink.connected(call->event()), std::nullopt);
  std::vector<Message> sent;
  call->event().signal();
  EXPECT_TRUE(wait_for([&] { return !(sent = notifier.sink.take()).empty(); }));
  EXPECT_THAT(sent, testing::ElementsAre(Message{0xfee0'1000, 2}));

  // What is signalled while the vector is masked becomes pending.
  notifier.interrupts.configure({});
  call->event().signal();
  const auto pending = [&] {
    return fakes::read_register(notifier.interrupts, devices::PciInterrupts::kPendingOffset, 8);
  };
  EXPECT_TRUE(wait_for([&] { return pending() == 1; }));
  loop.call([&] { call.reset(); });
}

TEST(VhostNetTest, ARingBrokenBeforeTheResetIsNotToldAfterIt) {
  auto vhost = VhostNet::open();
  if (!vhost) GTEST_SKIP() << vhost.error().message();
  auto tap = net::open_tap({});
  if (!tap) GTEST_SKIP() << tap.error().message();
  const GuestMemory memory = fakes::memory_of(16 << 20);
  const auto thread = LoopThread::start("vhost-test").value();
  EventLoop& loop = thread->loop();
  const std::array kicks = {EventFd::create().value(), EventFd::create().value()};
  const std::string name = "net0";
  Notifier notifier;

  for (const int expected : {1, 2}) {
    std::array drivers = {FakeDriver(memory, {.base = {0x10000}}),
                          FakeDriver(memory, {.base = {0x800000}})};
    const auto queue = [&](uint16_t i) {
      return ActiveQueue{i, VirtQueue::create(memory, drivers[i].layout()).value(), &kicks[i]};
    };
    loop.call([&] {
      for (const uint16_t i : std::to_array<uint16_t>({0, 1})) {
        const auto started = (*vhost)->start_queue(loop, feature_bit(VIRTIO_F_VERSION_1), queue(i),
                                                   (*tap)->vhost_descriptor(0), notifier, name);
        EXPECT_TRUE(started) << started.error().message();
      }
    });
    for (int i = 0; i < 10; ++i) loop.call([] {});
    EXPECT_EQ(notifier.resets, expected - 1);
    drivers[1].set_available_index(1000);
    kicks[1].signal();
    EXPECT_TRUE(wait_for([&] { return notifier.resets == expected; }));
    loop.call([&] { (*vhost)->stop(); });
  }
}

}  // namespace
}  // namespace wick::virtio
