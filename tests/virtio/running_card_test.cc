// Tests how a driver stops parts of a running network card: all access to guest memory, by the
// Bus Master bit (PCI 3.0, 6.2.2), or one queue, by its reset (virtio 1.2, 2.6.1).
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "tests/fakes/fake_network.h"
#include "tests/virtio/running_device_fixture.h"
#include "virtio/net.h"

namespace wick::virtio {
namespace {

class RunningCard : public RunningDevice {
 protected:
  static constexpr uint16_t kReceive = 0;
  static constexpr uint16_t kTransmit = 1;

  RunningCard() {
    card_ = Net::create(network_, loop(), {0x52, 0x54, 0, 0x12, 0x34, 0x56}, {}, "net0").value();
    plug(*card_);
    start();
  }
  ~RunningCard() override { unplug(); }

  FakeDriver::Request post() {
    const auto request = queue(kReceive).chain().writable(2048).publish();
    regs().kick(kReceive);
    return request;
  }
  void arrive() {
    loop().call([&] { network_.arrive({.header = {}, .frame = Bytes(100)}); });
  }
  FakeDriver::Request send() {
    const Bytes packet(sizeof(net::PacketHeader) + 100);
    const auto request = queue(kTransmit).chain().readable(packet).publish();
    regs().kick(kTransmit);
    return request;
  }
  size_t sent() {
    size_t count = 0;
    loop().call([&] { count = network_.sent.size(); });
    return count;
  }
  size_t waiting() {
    size_t count = 0;
    loop().call([&] { count = network_.waiting(); });
    return count;
  }

  fakes::FakeNetwork network_;
  std::unique_ptr<Net> card_;
};

// A packet must not be written to the buffers of the kernel that ran before.
TEST_F(RunningCard, ReceivesNothingWithoutTheBusMaster) {
  const auto buffer = post();
  regs().set_bus_master(false);
  arrive();
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(buffer.writable[0]));
  expect_nothing_until_restarted();
  EXPECT_TRUE(untouched(buffer.writable[0]));
  const auto again = post();
  arrive();
  EXPECT_EQ(take_used(kReceive).head, again.head);
}

TEST_F(RunningCard, SendsNothingWithoutTheBusMaster) {
  regs().set_bus_master(false);
  (void)send();
  EXPECT_TRUE(leaves_memory_alone());
  expect_nothing_until_restarted();
  EXPECT_EQ(sent(), 0u);
  const auto again = send();
  EXPECT_EQ(take_used(kTransmit).head, again.head);
  EXPECT_EQ(sent(), 1u);
}

TEST_F(RunningCard, ReceivesAndSendsOnRingsThatWereReplaced) {
  for (const uint16_t size : std::to_array<uint16_t>({64, 256, 1, 16})) {
    (void)post();  // the reset returns this chain
    replace_queue(kReceive, size, size != 16);
    replace_queue(kTransmit, size, size != 16);
    arrive();
    const auto buffer = post();
    EXPECT_EQ(take_used(kReceive), (FakeDriver::Used{buffer.head, 112}));
    const auto packet = send();
    EXPECT_EQ(take_used(kTransmit).head, packet.head);
  }
  EXPECT_EQ(sent(), 4u);
}

TEST_F(RunningCard, TouchesNoBufferOfAQueueThatWasReset) {
  const auto buffer = post();
  regs().reset_queue(kReceive);
  arrive();
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(buffer.writable[0]));
  const auto packet = send();
  EXPECT_EQ(take_used(kTransmit).head, packet.head) << "the other queue works";
}

TEST_F(RunningCard, TheControlQueueStartsAgainToo) {
  constexpr uint16_t kControl = 2;
  replace_queue(kControl, 8);
  const std::array<std::byte, 3> promiscuous{};
  const auto request = queue(kControl).chain().readable(promiscuous).writable(1).publish();
  regs().kick(kControl);
  EXPECT_EQ(take_used(kControl).head, request.head);
  EXPECT_EQ(request.writable[0][0], std::byte{VIRTIO_NET_OK});
}

// Packets arrive all the time while the rings are replaced.
TEST_F(RunningCard, ReplacesRingsUnderTraffic) {
  std::atomic<bool> done = false;
  std::thread network([&] {
    while (!done) {
      arrive();
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 100; ++i) {
    for (int n = 0; n < 4; ++n) (void)post();
    (void)take_used(kReceive);
    (void)send();
    replace_queue(kReceive, i % 3 == 0 ? 32 : 16, i % 2 == 0);
    replace_queue(kTransmit, i % 3 == 0 ? 32 : 16, i % 2 == 0);
    const auto packet = send();
    EXPECT_EQ(take_used(kTransmit).head, packet.head);
  }
  done = true;
  network.join();
}

}  // namespace
}  // namespace wick::virtio
