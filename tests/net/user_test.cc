#include "net/user.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <set>

#include "base/fd.h"
#include "net/user_filter.h"
#include "tests/net/user_guest.h"

namespace wick::net {
namespace {

using namespace fakes;  // NOLINT: frames are all that this file is about
using testing::HasSubstr;

const UserNetwork kPlain = {.name = "net0", .host_name = "machine", .forwards = {}};

// A socket of the host, bound to a free port of the loopback; all calls have a timeout.
class HostSocket {
 public:
  explicit HostSocket(int type) : HostSocket(Fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0))) {
    const sockaddr_in any{.sin_family = AF_INET,
                          .sin_port = 0,
                          .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                          .sin_zero = {}};
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(::listen(fd_.get(), 64), 0);
    }
  }
  uint16_t port() const {
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    EXPECT_EQ(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin_port);
  }
  HostSocket accept() const { return HostSocket(Fd(::accept(fd_.get(), nullptr, nullptr))); }
  static HostSocket connected_to(uint16_t port) {
    HostSocket socket(Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
    const sockaddr_in to{.sin_family = AF_INET,
                         .sin_port = htons(port),
                         .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                         .sin_zero = {}};
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
    return socket;
  }
  Bytes read(size_t size) const {
    Bytes data(size);
    size_t done = 0;
    while (done < size) {
      const ssize_t part = ::recv(fd_.get(), data.data() + done, size - done, 0);
      if (part <= 0) break;
      done += static_cast<size_t>(part);
    }
    data.resize(done);
    return data;
  }
  void write(const Bytes& data) const {
    EXPECT_EQ(::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(data.size()));
  }
  int get() const { return fd_.get(); }
  void close() { fd_.close(); }

 private:
  explicit HostSocket(Fd fd) : fd_(std::move(fd)) {
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  }
  Fd fd_;
};

size_t open_descriptors() {
  size_t count = 0;
  for (int fd = 0; fd < 10'000; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

uint16_t free_port(int type) { return HostSocket(type).port(); }

class UserTest : public testing::Test {
 protected:
  UserTest() { std::signal(SIGPIPE, SIG_IGN); }  // as wick run does
};

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

// --- forwards ---

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

// --- a guest that means no good ---

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

// The heap of this process, with what is cached in it left out.
size_t heap_bytes() { return ::mallinfo2().uordblks + ::mallinfo2().hblkhd; }

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

// --- detach, and the loop ---

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
  guest.on_loop([&] { guest.loop().before_wait([] { rounds += counting ? 1 : 0; }); });
  ::usleep(50'000);  // lets pending work finish
  rounds = 0;
  counting = true;
  ::usleep(200'000);
  counting = false;
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
