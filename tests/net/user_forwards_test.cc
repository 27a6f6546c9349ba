// Tests what a user network forwards to its guest, and what it restricts.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "tests/net/user_fixture.h"
#include "tests/net/user_guest.h"

namespace wick::net {
namespace {

using namespace fakes;  // NOLINT: frames are all that this file is about
using testing::HasSubstr;

TEST_F(UserTest, ForwardsAPortOfTheHostToTheGuest) {
  const uint16_t port = free_port(SOCK_STREAM);
  UserNetwork config = kPlain;
  config.forwards = {HostForward{.host_port = port, .guest_port = 22}};
  UserGuest guest(config);
  guest.announce();
  const auto client = HostSocket::connected_to(port);
  auto tcp = GuestTcp::accept(guest, 22);
  ASSERT_TRUE(tcp);
  client.write(bytes_of("SSH-2.0"));
  EXPECT_EQ(tcp->read(7), bytes_of("SSH-2.0"));
  ASSERT_TRUE(tcp->write(bytes_of("hello")));
  EXPECT_EQ(client.read(5), bytes_of("hello"));
}

TEST_F(UserTest, ForwardsDatagramsToTheGuest) {
  const uint16_t port = free_port(SOCK_DGRAM);
  UserNetwork config = kPlain;
  config.forwards = {HostForward{.udp = true, .host_port = port, .guest_port = 53}};
  UserGuest guest(config);
  guest.announce();
  const HostSocket client(SOCK_DGRAM);
  const sockaddr_in to{.sin_family = AF_INET,
                       .sin_port = htons(port),
                       .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                       .sin_zero = {}};
  ASSERT_EQ(::sendto(client.get(), "hi", 2, 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
            2);
  const auto datagram = guest.await(
      [](auto frame) { return is4(frame, kUdp) && get16(frame, kTransportPlace + 2) == 53; });
  ASSERT_TRUE(datagram);
  guest.send4(kUdp, kHost4, udp(53, get16(*datagram, kTransportPlace), bytes_of("yo")));
  EXPECT_EQ(client.read(2), bytes_of("yo"));
}

TEST_F(UserTest, NamesTheForwardThatCannotListen) {
  const HostSocket taken(SOCK_STREAM);
  UserNetwork config = kPlain;
  config.forwards = {HostForward{.host_port = taken.port(), .guest_port = 22}};
  const auto refused = open_user(config);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            fmt::format("hostfwd=tcp:127.0.0.1:{}-10.0.2.15:22: cannot listen: Address "
                        "already in use; another program listens there, so choose another host "
                        "port",
                        taken.port()));
  config.forwards = {HostForward{.host_address = "192.0.2.1", .host_port = 1, .guest_port = 2}};
  EXPECT_THAT(open_user(config).error().message(), HasSubstr("choose an address of this host"));
  config.forwards = {HostForward{.host_address = "localhost", .host_port = 1, .guest_port = 2}};
  EXPECT_THAT(open_user(config).error().message(), HasSubstr("not an IPv4 address"));
}

TEST_F(UserTest, RestrictedReachesNothingOfTheHost) {
  const HostSocket server(SOCK_DGRAM);
  UserNetwork config = kPlain;
  config.restricted = true;
  UserGuest guest(config);
  guest.announce();
  EXPECT_FALSE(GuestTcp(guest, 4000, kHost4, HostSocket(SOCK_STREAM).port()).connect());
  guest.send4(kUdp, kHost4, udp(5000, server.port(), bytes_of("?")));
  guest.send(UserGuest::dhcp(1));
  EXPECT_TRUE(guest.await([](auto frame) { return is4(frame, kUdp); }));
  EXPECT_EQ(::recv(server.get(), nullptr, 0, MSG_DONTWAIT), -1);
}

}  // namespace
}  // namespace wick::net
