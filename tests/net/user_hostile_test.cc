// Tests a user network with a guest that means no good.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <random>

#include "net/user_filter.h"
#include "tests/fakes/own_process.h"
#include "tests/net/user_fixture.h"
#include "tests/net/user_guest.h"

namespace wick::net {
namespace {

using namespace fakes;  // NOLINT: frames are all that this file is about

TEST_F(UserTest, LivesThroughGarbage) {
  UserGuest guest(kPlain);
  guest.announce();
  std::mt19937 random(4);
  const auto good = UserGuest::frame4(kUdp, kHost4, udp(1, 9, counting_bytes(100)));
  for (int round = 0; round < 5'000; ++round) {
    Bytes frame = good;
    frame.resize(random() % (good.size() + 1));
    for (int change = 0; change < 4 && !frame.empty(); ++change)
      frame[random() % frame.size()] = static_cast<std::byte>(random());
    PacketHeader header;
    if (round % 2 == 1) {
      header.flags = static_cast<uint8_t>(random());
      header.segmentation = static_cast<uint8_t>(random() % 8);
      header.segment_bytes = static_cast<uint16_t>(random() % 64);
      header.checksum_start = static_cast<uint16_t>(random() % 64);
      header.checksum_offset = static_cast<uint16_t>(random() % 64);
    }
    guest.send(frame, header);
  }
  // Packets without a header, empty, and too long.
  guest.on_loop([&] {
    Bytes large(kMaxPacketBytes + 1);
    const iovec nothing{large.data(), 0};
    const iovec half{large.data(), sizeof(PacketHeader) / 2};
    const iovec all{large.data(), large.size()};
    guest.backend().send(0, {});
    for (const iovec& part : {nothing, half, all}) guest.backend().send(0, {&part, 1});
  });
  guest.send4(kIcmp, kHost4, UserGuest::echo_request(9, {}));
  EXPECT_TRUE(guest.await(
      [](auto frame) { return is4(frame, kIcmp) && get16(frame, kTransportPlace + 4) == 9; }));
}

TEST_F(UserTest, GivesAGuestABoundedNumberOfSockets) {
  const HostSocket server(SOCK_DGRAM);
  UserGuest guest(kPlain);
  guest.announce();
  const size_t before = open_descriptors();
  guest.on_loop([&] {
    for (uint16_t port = 1000; port < 6000; ++port)
      guest.send_here(UserGuest::frame4(kUdp, kHost4, udp(port, server.port(), {})));
  });
  EXPECT_LE(open_descriptors(), before + UserFilter::kMaxSockets);
  EXPECT_GE(open_descriptors(), before + UserFilter::kMaxSockets - 10);
  const auto listener = HostSocket(SOCK_STREAM);
  guest.on_loop([&] {
    for (uint16_t port = 1000; port < 2000; ++port)
      guest.send_here(UserGuest::frame4(
          kTcp, kHost4, tcp({.from = port, .to = listener.port(), .flags = kSyn}, {})));
  });
  EXPECT_LE(open_descriptors(), before + UserFilter::kMaxSockets + 2);
  // It is still served.
  guest.send4(kIcmp, kHost4, UserGuest::echo_request(9, {}));
  guest.send(UserGuest::dhcp(1));
  EXPECT_TRUE(guest.await(
      [](auto frame) { return is4(frame, kUdp) && get16(frame, kTransportPlace) == 67; }));
}

constexpr uint32_t kSilent = 0x0a00024d;  // an address without a station

// libslirp queues packets for a neighbour while it resolves the address.
TEST_F(UserTest, KeepsNothingForAddressesThatNobodyAnswersFor) {
  const HostSocket server(SOCK_STREAM);
  UserGuest guest(kPlain);
  const auto from = [&](uint32_t address, uint8_t protocol, const Bytes& transport) {
    guest.send_here(UserGuest::frame4(protocol, kHost4, transport, address));
  };
  TcpHeader ahead{.from = 4000, .to = server.port(), .sequence = 1, .flags = kSyn};
  guest.on_loop([&] { from(kSilent, kTcp, tcp(ahead, {})); });
  EXPECT_TRUE(guest.await([](auto frame) { return is4(frame, kTcp); }));
  ahead.sequence = 0x100000;
  ahead.flags = 0;
  const size_t before = heap_bytes();
  guest.on_loop([&] {
    // Each segment causes an acknowledgement.
    for (int i = 0; i < 20'000; ++i) from(kSilent, kTcp, tcp(ahead, {}));
    // More addresses than libslirp's ARP table holds, so that entries are evicted.
    for (uint32_t i = 0; i < 5'000; ++i) {
      from(0x0a000220 + i % 64, kIcmp, UserGuest::echo_request(1, {}));
      from(kSilent, kTcp, tcp(ahead, {}));
      for (uint32_t other = 0; other < 20; ++other)
        guest.send_here(UserGuest::arp(1, 0x0a0002a0 + other, 0x0a0002a0 + other));
    }
  });
  EXPECT_LT(heap_bytes(), before + (4 << 20));
}

TEST_F(UserTest, KeepsNothingForAddresses6ThatNobodyAnswersFor) {
  UserGuest guest(kPlain);
  const auto ping = [](uint16_t number) {
    Ip6Address from = kHost6;
    from[14] = static_cast<uint8_t>(number >> 8 | 0x80);
    from[15] = static_cast<uint8_t>(number);
    Bytes message = UserGuest::echo_request(number, {});
    message[0] = std::byte{128};
    return ethernet(
        kRouterMac, kGuestMac, kIp6Type,
        ip6(from, kHost6, 58,
            with_checksum(message, kIcmp, pseudo_sum6(from, kHost6, 58, message.size()))));
  };
  const size_t before = heap_bytes();
  guest.on_loop([&] {
    for (uint16_t i = 0; i < 10'000; ++i) guest.send_here(ping(i % 100));
  });
  EXPECT_LT(heap_bytes(), before + (4 << 20));
  // Replies go to the address that they came from.
  const auto reply = guest.await([](auto frame) {
    return get16(frame, 12) == kIp6Type && get8(frame, 20) == 58 && get8(frame, 54) == 129;
  });
  ASSERT_TRUE(reply);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(get8(*reply, i), kGuestMac[i]);
}

// Errors of datagrams arrive after libslirp has forgotten their sender.
TEST_F(UserTest, KeepsNothingOfWhatComesLate) {
  UserGuest guest(kPlain);
  const uint16_t port = free_port(SOCK_DGRAM);
  const size_t before = heap_bytes();
  size_t errors = 0;
  for (uint16_t i = 0; i < 10'000; ++i) {
    guest.on_loop([&] {
      guest.send_here(UserGuest::frame4(kUdp, kHost4, udp(i % 100, port, Bytes(1000)), kSilent));
      for (uint32_t other = 0; other < 20; ++other)
        guest.send_here(UserGuest::arp(1, 0x0a0002a0 + other, 0x0a0002a0 + other));
    });
    while (const auto frame = guest.try_take([](auto) { return true; }))
      errors += is4(*frame, kIcmp) ? 1 : 0;
  }
  EXPECT_LT(heap_bytes(), before + (4 << 20));
  EXPECT_GT(errors, 5'000u);
}

TEST_F(UserTest, KeepsABoundedNumberOfFramesForAGuestThatTakesNone) {
  const HostSocket server(SOCK_STREAM);
  UserGuest guest(kPlain);
  guest.announce();
  GuestTcp tcp(guest, 4000, kHost4, server.port());
  ASSERT_TRUE(tcp.connect());
  const HostSocket peer = server.accept();
  guest.take(false);
  // A hundred times what the queue holds; replies to pings come at once.
  guest.on_loop([&] {
    const auto ping =
        UserGuest::frame4(kIcmp, kHost4, UserGuest::echo_request(1, counting_bytes(1000)));
    for (int i = 0; i < 100'000; ++i) guest.send_here(ping);
  });
  peer.write(counting_bytes(10'000));
  guest.take(true);
  EXPECT_LT(guest.waiting(), 1100u);
  EXPECT_GT(guest.waiting(), 900u);
  // Data from the host stayed in its socket or are sent again.
  EXPECT_EQ(tcp.read(10'000), counting_bytes(10'000));
}

TEST_F(UserTest, SaysOnceThatThereAreFrames) {
  const auto thread = LoopThread::start("net-test").value();
  const auto backend = open_user(kPlain).value();
  int calls = 0;
  const auto ask = [&] {
    Bytes packet(sizeof(PacketHeader));
    append(packet, UserGuest::arp(1, kGuest4, kHost4));
    const iovec part{packet.data(), packet.size()};
    backend->send(0, {&part, 1});
  };
  const auto take = [&] {
    Bytes packet(kMaxPacketBytes);
    const iovec part{packet.data(), packet.size()};
    return backend->receive(0, {&part, 1});
  };
  thread->loop().call([&] {
    ASSERT_TRUE(backend->attach(thread->loop(),
                                {.readable = [&](uint16_t) { ++calls; }, .link_changed = [] {}}));
    EXPECT_EQ(take(), 0u);
    ask();
    ask();
    EXPECT_EQ(calls, 0) << "called from inside send()";
  });
  thread->loop().call([&] {
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(take(), sizeof(PacketHeader) + 64);
    ask();
  });
  thread->loop().call([&] {
    EXPECT_EQ(calls, 1) << "there was one left";
    while (take() > 0) {
    }
    ask();
  });
  thread->loop().call([&] {
    EXPECT_EQ(calls, 2);
    // Nothing remains of a truncated packet.
    while (take() > 0) {
    }
    ask();
    std::array<std::byte, 20> small;
    const iovec part{small.data(), small.size()};
    EXPECT_EQ(backend->receive(0, {&part, 1}), small.size());
    EXPECT_EQ(take(), 0u);
    backend->detach();
  });
}

}  // namespace
}  // namespace wick::net
