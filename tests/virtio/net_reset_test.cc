// Tests resets and the destruction of a virtio network card.
#include <gtest/gtest.h>

#include <thread>

#include "tests/fakes/own_process.h"
#include "tests/virtio/net_fixture.h"
#include "virtio/net.h"

namespace wick::virtio {
namespace {

using fakes::open_descriptors;
using fakes::resident_bytes;

TEST_F(NetTest, StartsAgainWithOtherFeatures) {
  make(2, kAllOffloads, 1500);
  start();
  ASSERT_EQ(command(4, 0, uint16_t{2}), VIRTIO_NET_OK);
  ASSERT_EQ(command(0, 0, uint8_t{0}), VIRTIO_NET_OK);
  ASSERT_EQ(command(2, 0, uint16_t{5}), VIRTIO_NET_OK);
  start(bit(VIRTIO_NET_F_MRG_RXBUF) | bit(VIRTIO_NET_F_MQ) | bit(VIRTIO_NET_F_GUEST_CSUM) |
        bit(VIRTIO_NET_F_CTRL_VLAN));
  EXPECT_EQ(on_loop([&] { return network_->active_pairs(); }), 1);
  EXPECT_EQ(on_loop([&] { return network_->offloads().checksum; }), false);
  post_each(2, 2048);
  Packet other = packet(60);
  other.frame[5] ^= std::byte{1};
  arrive(other);
  expect_packet(other);
  EXPECT_EQ(command(2, 0, uint16_t{5}), VIRTIO_NET_ERR);
  EXPECT_TRUE(sends(packet(60)));
}

TEST_F(NetTest, ResetsInTheMiddleOfTraffic) {
  make(2);
  std::atomic<bool> stop = false;
  std::jthread network([&] {
    for (uint32_t i = 0; !stop; ++i) {
      loop().call([&] {
        for (uint16_t pair = 0; pair < 2; ++pair)
          if (network_->waiting(pair) < 100)
            network_->arrive(packet(i % 3 == 0 ? 1500 : 60, i), pair);
        if (i % 16 == 0) network_->set_link(i % 32 == 0);
        network_->sent.clear();
        network_->sent_on.clear();
      });
    }
  });
  for (int round = 0; round < 200; ++round) {
    start(round % 2 == 0 ? bit(VIRTIO_NET_F_MRG_RXBUF) : 0, {.event_index = round % 4 < 2});
    (void)command(4, 0, uint16_t{2});
    for (uint16_t pair = 0; pair < 2; ++pair) {
      for (int i = 0; i < 20; ++i) post({300}, static_cast<uint16_t>(2 * pair));
      for (uint32_t i = 0; i < 20; ++i)
        (void)queue(static_cast<uint16_t>(2 * pair + 1))
            .chain()
            .readable(bytes_of(packet(60, i)))
            .publish();
      regs().kick(2u * pair + 1);
    }
    if (round % 3 == 0) (void)take_used(kReceive);
    regs().reset();
    const auto index = queue(kReceive).used_index();
    loop().call([] {});
    EXPECT_EQ(queue(kReceive).used_index(), index) << "touched after the reset";
  }
  stop = true;
}

// With this many repetitions a leak of 400 bytes each would be detected.
constexpr int kManyTimes = 10'000;
constexpr size_t kLeakBytes = 4 << 20;

void expect_resident(size_t bytes) {
#ifndef __SANITIZE_ADDRESS__  // ASan keeps freed memory, and detects leaks itself
  EXPECT_LT(resident_bytes(), bytes + kLeakBytes);
#else
  static_cast<void>(bytes);
#endif
}

TEST_F(NetTest, LeaksNothingInTenThousandResets) {
  make(2, kAllOffloads);
  size_t descriptors = 0;
  size_t bytes = 0;
  for (int i = 0; i < kManyTimes + 200; ++i) {
    if (i == 200) descriptors = open_descriptors(), bytes = resident_bytes();
    start(0, {.size = 16});
    post_each(2, 100);
    arrive(packet(60));
    expect_packet(packet(60));
    ASSERT_FALSE(HasFailure());
    arrive(packet(1000));  // waits for buffers, and is dropped
    send(packet(60));
    regs().reset();
    loop().call([&] { network_->sent.clear(), network_->sent_on.clear(); });
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  expect_resident(bytes);
}

TEST_F(NetTest, LeaksNothingInTenThousandMachines) {
  unmake();
  size_t descriptors = 0;
  size_t bytes = 0;
  for (int i = 0; i < kManyTimes + 200; ++i) {
    if (i == 200) descriptors = open_descriptors(), bytes = resident_bytes();
    thread_->stop();
    thread_ = LoopThread::start("net-test").value();
    make();
    start(0, {.size = 16});
    post({100});
    arrive(packet(60));
    expect_packet(packet(60));
    send(packet(60));
    arrive(packet(1000));
    ASSERT_FALSE(HasFailure());
    if (i % 2 == 0)
      unmake();
    else  // the machine ends without a reset by the driver
      transport_->power_off(), registers_.reset(), unmake();
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  expect_resident(bytes);
}

TEST_F(NetTest, ItsBackEndHearsNoMoreOfItWhenItIsGone) {
  start();
  registers_->reset(), registers_.reset(), transport_.reset(), card_.reset();
  arrive(packet(60));
  set_link(false);
  card_ = Net::create(*network_, loop(), kMac, {}, "net0").value();
  transport_ = MmioTransport::create(*card_, *memory_, line_, "net0").value();
  registers_.emplace(*transport_);
  EXPECT_EQ(regs().config(kStatusAt, 2), 0u);
  start();
  post({128});
  expect_packet(packet(60));
}

}  // namespace
}  // namespace wick::virtio
