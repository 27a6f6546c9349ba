// Tests a user network and its loop: detach, moves, and rounds that do nothing.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net/user_fixture.h"
#include "tests/net/user_guest.h"

namespace wick::net {
namespace {

using namespace fakes;  // NOLINT: frames are all that this file is about

TEST_F(UserTest, CallsNobodyAfterItWasDetachedAndServesTheNext) {
  const HostSocket server(SOCK_STREAM);
  UserGuest guest(kPlain);
  guest.announce();
  GuestTcp tcp(guest, 4000, kHost4, server.port());
  ASSERT_TRUE(tcp.connect());
  const HostSocket peer = server.accept();
  guest.on_loop([&] {
    guest.send_here(UserGuest::arp(1, kGuest4, kHost4));  // the callback for the reply is posted
    guest.backend().detach();
    guest.send_here(UserGuest::arp(1, kGuest4, kHost4));  // dropped after detach
  });
  while (guest.try_take([](auto) { return true; })) {
  }
  peer.write(bytes_of("meanwhile"));
  guest.on_loop([] {});
  guest.on_loop([] {});
  EXPECT_EQ(guest.waiting(), 0u);
  guest.attach();
  EXPECT_EQ(tcp.read(9), bytes_of("meanwhile"));
}

TEST_F(UserTest, MovesToAnotherLoop) {
  auto backend = open_user(kPlain).value();
  for (int life = 0; life < 3; ++life) {
    const auto thread = LoopThread::start("net-test").value();
    std::atomic<int> calls = 0;
    thread->loop().call([&] {
      ASSERT_TRUE(backend->attach(thread->loop(),
                                  {.readable = [&](uint16_t) { ++calls; }, .link_changed = [] {}}));
      Bytes packet(sizeof(PacketHeader));
      append(packet, UserGuest::arp(1, kGuest4, kHost4));
      const iovec part{packet.data(), packet.size()};
      backend->send(0, {&part, 1});
    });
    EXPECT_TRUE(wait_for([&] { return calls == 1; }));
    thread->loop().call([&] { backend->detach(); });
  }
}

// Counts the rounds of a loop while nothing happens.
int idle_rounds(UserGuest& guest) {
  static std::atomic<int> rounds;
  static std::atomic<bool> counting;
  EventLoop::RoundEnd round_end;
  guest.on_loop([&] {
    round_end = guest.loop().at_round_end([] {
      rounds += counting ? 1 : 0;
      return false;
    });
  });
  ::usleep(50'000);  // lets pending work finish
  rounds = 0;
  counting = true;
  ::usleep(200'000);
  counting = false;
  guest.on_loop([&] { round_end.reset(); });
  return rounds;
}

TEST_F(UserTest, SleepsWhileNothingHappensWhateverBecameOfItsSockets) {
  const HostSocket server(SOCK_STREAM);
  UserGuest guest(kPlain);
  guest.announce();
  std::vector<HostSocket> peers;
  std::vector<GuestTcp> flows;
  for (uint16_t port = 4000; port < 4030; ++port) {
    flows.emplace_back(guest, port, kHost4, server.port());
    ASSERT_TRUE(flows.back().connect());
    peers.push_back(server.accept());
  }
  for (size_t i = 0; i < peers.size(); ++i) {
    if (i % 3 == 0) {
      peers[i].close();  // the guest does not react
    } else if (i % 3 == 1) {
      // The guest acknowledges nothing; then the host resets.
      Bytes much(1 << 16);
      (void)::send(peers[i].get(), much.data(), much.size(), MSG_DONTWAIT);
      const linger now{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(peers[i].get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
      peers[i].close();
    } else {
      flows[i].say(kFin | kAck);
      (void)::shutdown(peers[i].get(), SHUT_WR);
    }
  }
  // A spin would be tens of thousands; libslirp's own timers are two to four in a
  // second, and at most 500 when it delays an acknowledgement.
  EXPECT_LT(idle_rounds(guest), 1000);
}

// The descriptor of libslirp in this process that is connected to our port.
int connected_to_port(uint16_t port) {
  for (int fd = 0; fd < 1000; ++fd) {
    sockaddr_in peer{};
    socklen_t size = sizeof(peer);
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
        peer.sin_family == AF_INET && ntohs(peer.sin_port) == port)
      return fd;
  }
  return -1;
}

// A guest that acknowledges nothing, sends until the host takes no more, and whose
// peer then resets: libslirp 4.7 would read into a full buffer, and abort.
TEST_F(UserTest, OutlivesAResetOfAConnectionThatIsStuckBothWays) {
  const HostSocket server(SOCK_STREAM);
  UserGuest guest(kPlain);
  guest.announce();
  GuestTcp tcp(guest, 4000, kHost4, server.port());
  // libslirp's buffer (90 segments of 1460) fills up to the last byte when it is read into twice:
  // less than half of it, then the rest, if that is whole segments (of 1440).
  constexpr size_t kFirst = 90 * 1460 - 46 * 1440;
  ASSERT_TRUE(tcp.connect());
  HostSocket peer = server.accept();
  const int inside = connected_to_port(server.port());
  ASSERT_GE(inside, 0);
  const int room = 1 << 20;
  ASSERT_EQ(::setsockopt(inside, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
  const Bytes much(4 << 20);
  for (const size_t size : {kFirst, much.size()}) {
    guest.on_loop([&] {
      (void)::send(peer.get(), much.data(), size, MSG_DONTWAIT);
      ::usleep(20'000);
    });
    for (int i = 0; i < 10; ++i) guest.on_loop([] {});
  }
  for (int i = 0; i < 6000; ++i) tcp.say(kAck, counting_bytes(1400));
  for (int i = 0; i < 10; ++i) guest.on_loop([] {});
  tcp.rewind();
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  peer.close();
  guest.send4(kIcmp, kHost4, UserGuest::echo_request(9, {}));
  EXPECT_TRUE(guest.await([](auto frame) { return is4(frame, kIcmp); }));
  // The guest still gets the data that had arrived, and then the end.
  EXPECT_GT(tcp.read(much.size()).size(), 60'000u);
}

}  // namespace
}  // namespace wick::net
