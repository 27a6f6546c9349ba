#include "net/user.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <set>

#include "tests/fakes/own_process.h"
#include "tests/net/user_fixture.h"
#include "tests/net/user_guest.h"

namespace wick::net {
namespace {

using namespace fakes;  // NOLINT: frames are all that this file is about
using testing::HasSubstr;

TEST_F(UserTest, AnswersArpForTheHostAndTheNameServerOnly) {
  UserGuest guest(kPlain);
  const auto reply_from = [](uint32_t address) {
    return [=](auto frame) {
      return get16(frame, 12) == kArpType && get16(frame, 20) == 2 && get32(frame, 28) == address;
    };
  };
  guest.send(UserGuest::arp(1, kGuest4, 0x0a000263));
  guest.send(UserGuest::arp(1, kGuest4, kNames4));
  guest.send(UserGuest::arp(1, kGuest4, kHost4));
  const auto reply = guest.await(reply_from(kHost4));
  ASSERT_TRUE(reply);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(get8(*reply, 22 + i), kRouterMac[i]);
  EXPECT_TRUE(guest.try_take(reply_from(kNames4)));
  EXPECT_FALSE(guest.try_take(reply_from(0x0a000263)));
}

TEST_F(UserTest, GivesTheGuestItsAddressByDhcp) {
  UserGuest guest(kPlain);
  const auto reply = [](auto frame) {
    return is4(frame, kUdp) && get16(frame, kTransportPlace) == 67;
  };
  for (const uint8_t kind : std::array<uint8_t, 2>{1, 3}) {  // discover, request
    guest.send(UserGuest::dhcp(kind, kGuestMac, kind == 3 ? kGuest4 : 0));
    const auto answer = guest.await(reply);
    ASSERT_TRUE(answer);
    const auto message = std::span(std::as_const(*answer)).subspan(kTransportPlace + 8);
    EXPECT_EQ(get32(message, 16), kGuest4);
    EXPECT_EQ(get8(message, 242), kind == 1 ? 2 : 5);  // offer, acknowledgement
    const std::string_view text(reinterpret_cast<const char*>(message.data()), message.size());
    EXPECT_THAT(text, HasSubstr("machine"));
  }
}

TEST_F(UserTest, AnswersAPingOfTheHost) {
  UserGuest guest(kPlain);
  guest.announce();
  const auto payload = counting_bytes(1000);
  guest.send4(kIcmp, kHost4, UserGuest::echo_request(7, payload));
  const auto reply = guest.await([](auto frame) { return is4(frame, kIcmp); });
  ASSERT_TRUE(reply);
  EXPECT_EQ(get8(*reply, kTransportPlace), 0);
  EXPECT_EQ(get16(*reply, kTransportPlace + 4), 7);
  EXPECT_EQ(Bytes(reply->begin() + kTransportPlace + 8, reply->end()), payload);
}

TEST_F(UserTest, CarriesDatagramsBothWays) {
  const HostSocket server(SOCK_DGRAM);
  UserGuest guest(kPlain);
  guest.announce();
  for (const size_t size : {0u, 1u, 1472u}) {
    const auto question = counting_bytes(size);
    guest.send4(kUdp, kHost4, udp(5000, server.port(), question));
    sockaddr_in from{};
    socklen_t from_size = sizeof(from);
    Bytes received(2000);
    const ssize_t got = ::recvfrom(server.get(), received.data(), received.size(), 0,
                                   reinterpret_cast<sockaddr*>(&from), &from_size);
    ASSERT_EQ(got, static_cast<ssize_t>(size));
    received.resize(size);
    EXPECT_EQ(received, question);
    const auto answer = counting_bytes(size, 99);
    ASSERT_EQ(::sendto(server.get(), answer.data(), answer.size(), 0,
                       reinterpret_cast<const sockaddr*>(&from), from_size),
              got);
    const auto reply = guest.await([&](auto frame) {
      return is4(frame, kUdp) && get16(frame, kTransportPlace) == server.port();
    });
    ASSERT_TRUE(reply);
    EXPECT_EQ(get16(*reply, kTransportPlace + 2), 5000);
    EXPECT_EQ(Bytes(reply->begin() + kTransportPlace + 8, reply->end()), answer);
    const auto segment = std::span(std::as_const(*reply)).subspan(kTransportPlace);
    EXPECT_EQ(ones_complement_sum(segment, pseudo_sum4(kHost4, kGuest4, kUdp, segment.size())),
              0xffff);
  }
}

TEST_F(UserTest, CarriesAConnectionToItsEnd) {
  const HostSocket server(SOCK_STREAM);
  UserGuest guest(kPlain);
  guest.announce();
  GuestTcp tcp(guest, 4000, kHost4, server.port());
  ASSERT_TRUE(tcp.connect());
  HostSocket peer = server.accept();
  const auto up = counting_bytes(100'000);
  ASSERT_TRUE(tcp.write(up));
  EXPECT_EQ(peer.read(up.size()), up);
  const auto down = counting_bytes(100'000, 50);
  peer.write(down);
  EXPECT_EQ(tcp.read(down.size()), down);
  // The guest ends its half, then the host.
  tcp.say(kFin | kAck);
  EXPECT_EQ(peer.read(1), Bytes());
  peer.write(bytes_of("last words"));
  peer.close();
  tcp.set_sequence(tcp.sequence() + 1);
  EXPECT_EQ(tcp.read(100), bytes_of("last words"));
}

TEST_F(UserTest, TellsTheGuestThatNobodyListens) {
  UserGuest guest(kPlain);
  guest.announce();
  EXPECT_FALSE(GuestTcp(guest, 4001, kHost4, free_port(SOCK_STREAM)).connect());
  // And of datagrams, by ICMP.
  guest.send4(kUdp, kHost4, udp(4002, free_port(SOCK_DGRAM), bytes_of("?")));
  const auto unreachable = guest.await([](auto frame) { return is4(frame, kIcmp); });
  ASSERT_TRUE(unreachable);
  EXPECT_EQ(get8(*unreachable, kTransportPlace), 3);
}

// Sends a datagram to every datagram socket of this process.
void feed_datagram_sockets() {
  const HostSocket source(SOCK_DGRAM);
  for (int fd = 0; fd < 1000; ++fd) {
    int type = 0;
    socklen_t type_size = sizeof(type);
    sockaddr_in name{};
    socklen_t name_size = sizeof(name);
    auto* const address = reinterpret_cast<sockaddr*>(&name);
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0 || type != SOCK_DGRAM ||
        ::getsockname(fd, address, &name_size) != 0 || name.sin_family != AF_INET)
      continue;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)::sendto(source.get(), "!", 1, MSG_DONTWAIT, address, name_size);
  }
}

// An error of a socket is reported twice, and the first round clears it: in the second,
// libslirp would block on a datagram that nobody sends.
TEST_F(UserTest, NeverWaitsForASocketWhoseErrorIsGone) {
  UserGuest guest(kPlain);
  guest.announce();
  const auto frame =
      UserGuest::frame4(kUdp, kHost4, udp(5000, free_port(SOCK_DGRAM), bytes_of("?")));
  std::atomic<bool> served = false;
  for (int i = 0; i < 50; ++i) {
    if (i % 5 == 0) guest.loop().post([&] { guest.send_here(frame); });
    served = false;
    guest.loop().post([&] { served = true; });
    const bool waits = !wait_for([&] { return served.load(); }, std::chrono::seconds(5));
    if (waits) feed_datagram_sockets();  // else the test would hang
    ASSERT_FALSE(waits);
  }
}

TEST_F(UserTest, HasNoSocketThatWaits) {
  const uint16_t port = free_port(SOCK_DGRAM);
  UserNetwork config = kPlain;
  config.forwards = {HostForward{.udp = true, .host_port = port, .guest_port = 53},
                     HostForward{.host_port = free_port(SOCK_STREAM), .guest_port = 22}};
  const auto sockets_that_wait = [] {
    std::set<int> found;
    for (int fd = 0; fd < 1000; ++fd) {
      int type = 0;
      socklen_t size = sizeof(type);
      if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
          (::fcntl(fd, F_GETFL) & O_NONBLOCK) == 0)
        found.insert(fd);
    }
    return found;
  };
  const HostSocket server(SOCK_STREAM);
  const auto before = sockets_that_wait();
  const size_t descriptors = open_descriptors();
  UserGuest guest(config);
  guest.announce();
  guest.send4(kUdp, kHost4, udp(5000, server.port(), {}));
  guest.send4(kIcmp, 0x7f000001, UserGuest::echo_request(7, {}));
  GuestTcp(guest, 4000, kHost4, server.port()).say(kSyn);
  EXPECT_TRUE(guest.await([](auto frame) { return is4(frame, kTcp); }));
  EXPECT_GE(open_descriptors(), descriptors + 4);
  EXPECT_EQ(sockets_that_wait(), before);
}

// --- offloads ---

TEST_F(UserTest, TakesTheLargestPacketThatASegmentingGuestSends) {
  const HostSocket server(SOCK_STREAM);
  UserGuest guest(kPlain);
  guest.announce();
  GuestTcp tcp(guest, 4000, kHost4, server.port());
  ASSERT_TRUE(tcp.connect());
  const HostSocket peer = server.accept();
  const auto data = counting_bytes(65535 - 40);
  const auto segment = with_partial_checksum(tcp.segment(kAck | kPsh, data), kTcp,
                                             pseudo_sum4(kGuest4, kHost4, kTcp, data.size() + 20));
  const auto frame = ethernet(kRouterMac, kGuestMac, kIp4Type,
                              ip4({.from = kGuest4, .to = kHost4, .protocol = kTcp}, segment));
  ASSERT_EQ(frame.size(), 14u + 65535);
  PacketHeader header;
  header.flags = PacketHeader::kNeedsChecksum;
  header.segmentation = PacketHeader::kTcp4;
  header.segment_bytes = 1460;
  header.checksum_start = kTransportPlace;
  header.checksum_offset = 16;
  guest.send(frame, header);
  EXPECT_EQ(peer.read(data.size()), data);
}

}  // namespace
}  // namespace wick::net
