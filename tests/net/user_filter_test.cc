#include "net/user_filter.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "tests/fakes/own_process.h"
#include "tests/net/user_guest.h"

namespace wick::net {
namespace {

using namespace fakes;  // NOLINT: frames are all that this file is about
using Verdict = UserFilter::Verdict;

Verdict judge(UserFilter& filter, const Bytes& frame, size_t open_sockets = 0) {
  Bytes copy = frame;
  return filter.judge(copy, open_sockets);
}

TEST(UserFilter, PassesWhatAGuestHasToSay) {
  UserFilter filter;
  EXPECT_EQ(judge(filter, UserGuest::arp(1, kGuest4, kHost4)), Verdict::kPass);
  EXPECT_EQ(judge(filter, UserGuest::dhcp(1)), Verdict::kPass);
  for (const uint8_t protocol : {kUdp, kTcp, kIcmp})
    EXPECT_EQ(judge(filter, UserGuest::frame4(protocol, kHost4, Bytes(1480))), Verdict::kPass);
  EXPECT_EQ(judge(filter, ethernet(kRouterMac, kGuestMac, kIp6Type,
                                   ip6({}, {}, kUdp, counting_bytes(1460)))),
            Verdict::kPass);
}

TEST(UserFilter, IgnoresFramesThatAreCutLongOrOfNoUse) {
  UserFilter filter;
  const auto whole = UserGuest::frame4(kTcp, kHost4, tcp({}, {}));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(
        judge(filter, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))),
        Verdict::kIgnore);
  }
  EXPECT_EQ(judge(filter, whole), Verdict::kPass);
  EXPECT_EQ(judge(filter, UserGuest::frame4(kUdp, kHost4, Bytes(1481))), Verdict::kIgnore);
  EXPECT_EQ(judge(filter, ethernet(kRouterMac, kGuestMac, 0x88f8, Bytes(100))), Verdict::kIgnore);
  EXPECT_EQ(judge(filter, with_vlan(whole, 1)), Verdict::kIgnore);
}

TEST(UserFilter, RefusesFragments) {
  UserFilter filter;
  for (const uint16_t fragment : std::array<uint16_t, 4>{0x2000, 0x0001, 0x8000, 0x3fff}) {
    const auto frame = ethernet(
        kRouterMac, kGuestMac, kIp4Type,
        ip4({.from = kGuest4, .to = kHost4, .protocol = kUdp, .fragment = fragment}, Bytes(100)));
    EXPECT_EQ(judge(filter, frame), Verdict::kFragment);
  }
  EXPECT_EQ(judge(filter, ethernet(kRouterMac, kGuestMac, kIp4Type,
                                   ip4({.from = kGuest4,
                                        .to = kHost4,
                                        .protocol = kUdp,
                                        .fragment = 0x4000},  // do not fragment
                                       Bytes(100)))),
            Verdict::kPass);
}

TEST(UserFilter, TakesTheUrgentBitAwayAndKeepsTheChecksumRight) {
  UserFilter filter;
  for (uint16_t port = 0; port < 500; ++port) {
    auto frame =
        UserGuest::frame4(kTcp, kHost4,
                          tcp({.from = port, .to = 23, .flags = kAck | kUrg | kPsh, .urgent = 1},
                              counting_bytes(port)));
    EXPECT_EQ(filter.judge(frame, 0), Verdict::kPass);
    EXPECT_EQ(get8(frame, kTransportPlace + 13), kAck | kPsh);
    const auto segment = std::span(std::as_const(frame)).subspan(kTransportPlace);
    EXPECT_EQ(ones_complement_sum(segment, pseudo_sum4(kGuest4, kHost4, kTcp, segment.size())),
              0xffff);
  }
}

TEST(UserFilter, OpensNothingMoreWhenThereAreManySockets) {
  UserFilter filter;
  const size_t full = UserFilter::kMaxSockets;
  const auto syn = UserGuest::frame4(kTcp, kHost4, tcp({.flags = kSyn}, {}));
  const auto ping = UserGuest::frame4(kIcmp, 0x08080808, UserGuest::echo_request(1, {}));
  const auto datagram = UserGuest::frame4(kUdp, kHost4, udp(1, 2, {}));
  for (const Bytes& frame : {syn, ping, datagram}) {
    EXPECT_EQ(judge(filter, frame, full - 1), Verdict::kPass);
    EXPECT_EQ(judge(filter, frame, full), Verdict::kTooManySockets);
  }
  EXPECT_EQ(judge(filter, UserGuest::frame4(kTcp, kHost4, tcp({.flags = kAck}, {})), full),
            Verdict::kPass);
  EXPECT_EQ(judge(filter, UserGuest::dhcp(1), full), Verdict::kPass);
}

// More connections than the filter can track, each with a segment that is not acknowledged.
TEST(UserFilter, ForgetsConnectionsThatAreGone) {
  UserFilter filter;
  const auto data = [&](uint16_t port, uint32_t sequence) {
    return judge(filter,
                 UserGuest::frame4(kTcp, kHost4,
                                   tcp({.from = port, .to = 80, .sequence = sequence}, Bytes(1))));
  };
  const auto reset = [&](uint16_t port, bool closed) {
    auto frame = UserGuest::frame4(kTcp, kHost4, tcp({.from = port, .to = 80, .flags = kRst}, {}));
    EXPECT_EQ(filter.judge(frame, 0), Verdict::kPass);
    filter.on_frame_passed(frame, false, closed);
  };
  const auto fill = [&](uint16_t port) {
    for (uint32_t i = 0; i < UserFilter::kMaxEarly; ++i)
      EXPECT_EQ(data(port, 9 + i), Verdict::kPass);
    EXPECT_EQ(data(port, 100), Verdict::kEarly);
  };
  for (uint16_t port = 2; port < 10'000; ++port) {
    EXPECT_EQ(data(port, 9), Verdict::kPass);
    reset(port, true);
  }
  fill(1);
  // A reset that libslirp ignores makes no room for more; a new connection does.
  reset(1, false);
  EXPECT_EQ(data(1, 100), Verdict::kEarly);
  filter.on_frame_to_guest(
      ethernet(kGuestMac, kRouterMac, kIp4Type,
               ip4({.from = kHost4, .to = kGuest4, .protocol = kTcp},
                   tcp({.from = 80, .to = 1, .acknowledged = 5, .flags = kSyn | kAck}, {}))));
  fill(1);
}

TEST(UserFilter, CarriesDataAfterManyConnectionsThatTheGuestReset) {
  const Fd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET,
                      .sin_port = 0,
                      .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                      .sin_zero = {}};
  socklen_t size = sizeof(address);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(server.get(), name, sizeof(address)), 0);
  ASSERT_EQ(::listen(server.get(), 64), 0);
  ASSERT_EQ(::getsockname(server.get(), name, &size), 0);
  UserGuest guest(UserNetwork{.name = "net0"});
  guest.announce();
  for (uint16_t port = 4000; port < 6200; ++port) {
    GuestTcp tcp(guest, port, kHost4, ntohs(address.sin_port));
    ASSERT_TRUE(tcp.connect());
    const Fd peer(::accept(server.get(), nullptr, nullptr));
    const uint32_t next = tcp.sequence();
    tcp.set_sequence(next + 100);
    tcp.say(kAck, Bytes(1));  // not acknowledged, because the segment before it is missing
    tcp.set_sequence(next);
    tcp.say(kRst | kAck);
  }
  GuestTcp tcp(guest, 3999, kHost4, ntohs(address.sin_port));
  ASSERT_TRUE(tcp.connect());
  EXPECT_TRUE(tcp.write(counting_bytes(5000)));
}

// libslirp 4.7 leaks a buffer for each request for which it has no address.
TEST(UserFilter, BoundsWhatDhcpLoses) {
  UserGuest guest(UserNetwork{.name = "net0"});
  const auto ask = [&](uint32_t first, uint32_t count) {
    guest.on_loop([&] {
      for (uint32_t i = first; i < first + count; ++i) {
        const Mac station = {2,
                             0,
                             0,
                             static_cast<uint8_t>(i >> 16),
                             static_cast<uint8_t>(i >> 8),
                             static_cast<uint8_t>(i)};
        guest.send_here(UserGuest::dhcp(1, station));
      }
    });
  };
  const auto answers = [&] {
    size_t count = 0;
    while (guest.try_take([](auto frame) { return is4(frame, kUdp); })) ++count;
    return count;
  };
  ask(0, 2000);
  guest.on_loop([] {});
  EXPECT_EQ(answers(), 16u);
  const size_t before = heap_bytes();
  ask(2000, 20'000);
  EXPECT_LT(heap_bytes(), before + (1 << 20));
  // A station that has an address always gets replies.
  ask(0, 16);
  EXPECT_TRUE(fakes::wait_for([&] { return guest.waiting() >= 16; }));
  EXPECT_EQ(answers(), 16u);
}

// Sends single bytes, each a little further on, but never the first.
TEST(UserFilter, BoundsWhatATcpConnectionKeepsOfTheFuture) {
  const Fd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET,
                      .sin_port = 0,
                      .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                      .sin_zero = {}};
  socklen_t size = sizeof(address);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(server.get(), name, sizeof(address)), 0);
  ASSERT_EQ(::listen(server.get(), 64), 0);
  ASSERT_EQ(::getsockname(server.get(), name, &size), 0);
  UserGuest guest(UserNetwork{.name = "net0"});
  guest.announce();
  const size_t before = heap_bytes();
  for (uint16_t port = 4000; port < 4004; ++port) {
    GuestTcp tcp(guest, port, kHost4, ntohs(address.sin_port));
    ASSERT_TRUE(tcp.connect());
    const uint32_t start = tcp.sequence();
    guest.take(false);
    guest.on_loop([&] {
      for (uint32_t i = 60'000; i > 0; i -= 4) {
        tcp.set_sequence(start + i);
        guest.send_here(UserGuest::frame4(kTcp, kHost4, tcp.segment(kAck, Bytes(1))));
      }
    });
    guest.take(true);
    // The missing byte, and those after it when sent again, are accepted as usual.
    tcp.set_sequence(start);
    ASSERT_TRUE(tcp.write(counting_bytes(5000)));
  }
  EXPECT_LT(heap_bytes(), before + 4 * UserFilter::kMaxEarly * 2048 + (2 << 20));
}

}  // namespace
}  // namespace wick::net
