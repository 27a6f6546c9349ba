// Tests vhost-net in the kernel. Needs root, /dev/net/tun and /dev/vhost-net, as in the
// lab (tests/lab/lab build/tests/virtio_tests --gtest_filter='VhostNet*').
#include "virtio/vhost_net.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <string>

#include "net/tap.h"
#include "tests/fakes/fake_driver.h"
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

TEST(VhostNetTest, ARingBrokenBeforeTheResetIsNotToldAfterIt) {
  auto vhost = VhostNet::open();
  if (!vhost) GTEST_SKIP() << vhost.error().message();
  auto tap = net::open_tap({});
  if (!tap) GTEST_SKIP() << tap.error().message();
  const std::array ranges = {GuestMemory::Range{{0}, 16 << 20}};
  const GuestMemory memory = GuestMemory::create(ranges).value();
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
        const auto started = (*vhost)->start_queue(loop, kFeatureVersion1, queue(i),
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
