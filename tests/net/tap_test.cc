// A TAP device whose host end is in a separate network namespace.
#include "net/tap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "tests/fakes/frames.h"
#include "tests/fakes/wait_for.h"

namespace wick::net {
namespace {

using fakes::wait_for;
using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

constexpr int kHostHeaderBytes = 10;  // of PACKET_VNET_HDR: without `buffers`
constexpr Offloads kTcpOffloads = {.checksum = true, .tcp4 = true, .tcp6 = true, .ecn = true};

struct Packet {
  PacketHeader header;
  Bytes frame;
};

// An IPv4 and TCP frame from 10.9.0.2 to 10.9.0.1 whose checksum is left to the receiver.
Bytes tcp_frame(size_t payload_bytes, uint8_t seed = 1) {
  Bytes frame(14 + 20 + 20 + payload_bytes, std::byte{seed});
  std::span<std::byte> all = frame;
  std::ranges::fill(all.first(54), std::byte{0});
  std::memset(all.data(), 0xff, 6);  // to everyone
  all[6] = std::byte{2};
  store_be<uint16_t>(all.subspan(12), ETH_P_IP);
  const auto ip = all.subspan(14);
  ip[0] = std::byte{0x45};
  store_be(ip.subspan(2), static_cast<uint16_t>(frame.size() - 14));
  ip[8] = std::byte{64};
  ip[9] = std::byte{6};
  store_be<uint32_t>(ip.subspan(12), 0x0a090002);
  store_be<uint32_t>(ip.subspan(16), 0x0a090001);
  uint32_t sum = 0;
  for (size_t i = 0; i < 20; i += 2) sum += load_be<uint16_t>(ip.subspan(i));
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  store_be(ip.subspan(10), static_cast<uint16_t>(~sum));
  const auto tcp = ip.subspan(20);
  store_be<uint16_t>(tcp, 4000);
  store_be<uint16_t>(tcp.subspan(2), 4001);
  tcp[12] = std::byte{0x50};
  tcp[13] = std::byte{0x10};
  return frame;
}

// To be cut into segments of 1000 bytes.
constexpr PacketHeader kSegmented{.flags = PacketHeader::kNeedsChecksum,
                                  .segmentation = PacketHeader::kTcp4,
                                  .header_bytes = 54,
                                  .segment_bytes = 1000,
                                  .checksum_start = 34,
                                  .checksum_offset = 16,
                                  .buffers = 0};

class TapTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root makes network namespaces and TAPs";
    // Affects only this thread and those that it starts.
    home_ = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!home_.valid() || ::unshare(CLONE_NEWNET) != 0) {
      home_.close();
      GTEST_SKIP() << "no network namespaces here: " << std::strerror(errno);
    }
    if (!Fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC)).valid())
      GTEST_SKIP() << "no /dev/net/tun here: " << std::strerror(errno);
    if (!run("ip link set lo up")) GTEST_SKIP() << "no ip(8) here";
    thread_ = LoopThread::start("tap-test").value();
    loop().call([&] { loop().before_wait([&] { ++rounds_; }); });
  }
  void TearDown() override {
    close();
    if (thread_) thread_->stop();
    if (home_.valid()) {
      EXPECT_EQ(::setns(home_.get(), CLONE_NEWNET), 0);
    }
  }

  EventLoop& loop() { return thread_->loop(); }
  static bool run(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  }
  static bool exists(const std::string& name) { return ::if_nametoindex(name.c_str()) != 0; }
  static short flags(const std::string& name) { return request(name, SIOCGIFFLAGS).ifr_flags; }
  static int mtu(const std::string& name) { return request(name, SIOCGIFMTU).ifr_mtu; }
  static ifreq request(const std::string& name, unsigned long number) {
    ifreq asked{};
    name.copy(asked.ifr_name, IFNAMSIZ - 1);
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::ioctl(socket.get(), number, &asked), 0) << name;
    return asked;
  }
  static std::string error_of(const TapConfig& config) {
    const auto tap = open_tap(config);
    return tap ? "no error" : tap.error().message();
  }

  void open(const TapConfig& config) {
    auto tap = open_tap(config);
    ASSERT_TRUE(tap) << tap.error().message();
    tap_ = *std::move(tap);
  }
  void attach() {
    Result<void> attached;
    loop().call([&] {
      attached = tap_->attach(loop(), {.readable = [&](uint16_t pair) { ++readable_[pair]; },
                                       .link_changed = [&] { ++link_changes_; }});
    });
    ASSERT_TRUE(attached) << attached.error().message();
  }
  void detach() {
    loop().call([&] { tap_->detach(); });
  }
  void close() {
    if (tap_ && thread_) detach();
    tap_.reset();
  }
  bool link_up() {
    bool up = false;
    loop().call([&] { up = tap_->link_up(); });
    return up;
  }
  void set_active_pairs(uint16_t count) {
    loop().call([&] { tap_->set_active_pairs(count); });
  }
  void set_offloads(Offloads offloads) {
    loop().call([&] { tap_->set_offloads(offloads); });
  }

  // --- the guest's end ---

  void send(const PacketHeader& header, const Bytes& frame, uint16_t pair = 0) {
    PacketHeader copy = header;
    Bytes bytes = frame;
    const std::array<iovec, 2> buffers = {iovec{&copy, sizeof(copy)},
                                          iovec{bytes.data(), bytes.size()}};
    loop().call([&] { tap_->send(pair, buffers); });
  }
  // The next packet, if there is one.
  std::optional<Packet> receive_now(uint16_t pair = 0) {
    Bytes all(kMaxPacketBytes);
    const std::array<iovec, 2> halves = {iovec{all.data(), 7},
                                         iovec{all.data() + 7, all.size() - 7}};
    size_t size = 0;
    loop().call([&] { size = tap_->receive(pair, halves); });
    if (size == 0) return std::nullopt;
    Packet packet;
    EXPECT_GE(size, sizeof(packet.header));
    std::memcpy(&packet.header, all.data(), sizeof(packet.header));
    packet.frame.assign(all.begin() + sizeof(packet.header),
                        all.begin() + static_cast<std::ptrdiff_t>(size));
    return packet;
  }
  // The next packet of this Ethernet type; the host also sends packets of its own.
  std::optional<Packet> receive(uint16_t type = ETH_P_IP, uint16_t pair = 0) {
    std::optional<Packet> packet;
    EXPECT_TRUE(wait_for([&] {
      packet = receive_now(pair);
      return packet && load_be<uint16_t>(std::span(packet->frame).subspan(12)) == type;
    }));
    return packet;
  }
  bool receives_nothing(uint16_t type = ETH_P_IP, uint16_t pair = 0) {
    while (const auto packet = receive_now(pair))
      if (load_be<uint16_t>(std::span(packet->frame).subspan(12)) == type) return false;
    return true;
  }

  // --- the host's end: packets with offloads, as they are on the interface ---

  void open_host(const std::string& name) {
    host_ = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    const int one = 1;
    ASSERT_EQ(::setsockopt(host_.get(), SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
    ASSERT_EQ(::bind(host_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  void host_send(const PacketHeader& header, const Bytes& frame) {
    Bytes bytes(kHostHeaderBytes + frame.size());
    std::memcpy(bytes.data(), &header, kHostHeaderBytes);
    std::ranges::copy(frame, bytes.begin() + kHostHeaderBytes);
    ASSERT_EQ(::send(host_.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()))
        << std::strerror(errno);
  }
  // Sends frames of so many flows that each queue in use gets some.
  void host_send_flows(uint16_t count) {
    for (uint16_t flow = 0; flow < count; ++flow) {
      Bytes frame = tcp_frame(100);
      store_be(std::span(frame).subspan(34), flow);
      host_send({}, frame);
    }
  }
  // The next packet that the interface got from the guest.
  std::optional<Packet> host_receive() {
    Bytes bytes(70'000);
    std::optional<Packet> packet;
    EXPECT_TRUE(wait_for([&] {
      sockaddr_ll from{};
      socklen_t length = sizeof(from);
      const ssize_t size = ::recvfrom(host_.get(), bytes.data(), bytes.size(), 0,
                                      reinterpret_cast<sockaddr*>(&from), &length);
      if (size < kHostHeaderBytes || from.sll_pkttype == PACKET_OUTGOING) return false;
      packet.emplace();
      std::memcpy(static_cast<void*>(&packet->header), bytes.data(), kHostHeaderBytes);
      packet->frame.assign(bytes.begin() + kHostHeaderBytes, bytes.begin() + size);
      return true;
    }));
    return packet;
  }

  Fd home_;
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<Backend> tap_;
  Fd host_;
  std::atomic<int> rounds_ = 0;
  std::array<std::atomic<int>, 16> readable_{};
  std::atomic<int> link_changes_ = 0;
};

// --- opening ---

TEST_F(TapTest, IsMadeByNameAndGoesWhenItIsClosed) {
  open({.interface = "wick0"});
  EXPECT_EQ(tap_->name(), "wick0");
  EXPECT_EQ(tap_->queue_pairs(), 1);
  EXPECT_GE(tap_->vhost_descriptor(0), 0);
  EXPECT_NE(flags("wick0") & IFF_UP, 0);
  close();
  EXPECT_FALSE(exists("wick0"));
}

TEST_F(TapTest, FindsANameWhereNoneIsGiven) {
  open({});
  EXPECT_TRUE(exists(tap_->name())) << tap_->name();
  auto second = open_tap({});
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_NE((*second)->name(), tap_->name());
}

TEST_F(TapTest, RefusesNamesThatNoInterfaceHas) {
  EXPECT_EQ(error_of({.interface = "sixteen-letters-"}),
            "sixteen-letters-: the name is too long for an interface; use at most 15 characters");
  EXPECT_EQ(error_of({.interface = "fifteen-letters"}), "no error");
  for (const char* const name : {"a/b", ".", "..", "a b", "a:b"})
    EXPECT_EQ(error_of({.interface = name}),
              fmt::format("{}: cannot be used as a TAP: Invalid argument; this is not a "
                          "valid name for an interface",
                          name));
}

TEST_F(TapTest, UsesOneThatIsThereAndLeavesIt) {
  for (const char* const kind : {"", "vnet_hdr", "multi_queue", "vnet_hdr multi_queue"}) {
    SCOPED_TRACE(kind);
    ASSERT_TRUE(run(fmt::format("ip tuntap add name there mode tap {}", kind)));
    for (int i = 0; i < 2; ++i) {
      open({.interface = "there"});
      attach();
      open_host("there");
      send({}, tcp_frame(100));
      EXPECT_EQ(host_receive()->frame, tcp_frame(100));
      host_send({}, tcp_frame(100));
      EXPECT_EQ(receive()->frame, tcp_frame(100));
      close();
      EXPECT_TRUE(exists("there"));
    }
    ASSERT_TRUE(run("ip link del there"));
  }
}

TEST_F(TapTest, UsesManyQueuesOfOneThatWasMadeForThem) {
  ASSERT_TRUE(run("ip tuntap add name many mode tap multi_queue"));
  open({.interface = "many", .queues = 4});
  EXPECT_EQ(tap_->queue_pairs(), 4);
  close();
  ASSERT_TRUE(run("ip tuntap add name one mode tap"));
  EXPECT_THAT(
      error_of({.interface = "one", .queues = 4}),
      HasSubstr("one: cannot be used as a TAP: Invalid argument; it is not a TAP device, or "
                "its queues or headers differ"));
}

TEST_F(TapTest, IsNotUsedTwice) {
  open({.interface = "busy"});
  EXPECT_EQ(error_of({.interface = "busy"}),
            "busy: cannot be used as a TAP: Device or resource busy; another machine uses it: give "
            "another ifname");
  close();
  EXPECT_EQ(error_of({.interface = "busy"}), "no error");
}

TEST_F(TapTest, IsNoOtherInterface) {
  ASSERT_TRUE(run("ip tuntap add name tun7 mode tun"));
  ASSERT_TRUE(run("ip link add br7 type bridge"));
  for (const char* const name : {"lo", "tun7", "br7"})
    for (const uint16_t queues : {uint16_t{1}, uint16_t{2}})
      EXPECT_THAT(error_of({.interface = name, .queues = queues}),
                  HasSubstr("it is not a TAP device, or its queues or headers differ"))
          << name;
}

TEST_F(TapTest, SaysWhatAnOrdinaryUserIsToDo) {
  ASSERT_TRUE(run("ip tuntap add name roots mode tap user 0"));
  // Changes only this thread; the C library's function would change all threads.
  ASSERT_EQ(::syscall(SYS_setresuid, -1, 65534, -1), 0);
  const std::string made = error_of({});
  const std::string used = error_of({.interface = "roots"});
  const std::string absent = error_of({.interface = "nosuch"});
  const std::string bridge = error_of({.bridge = "nobr"});
  ASSERT_EQ(::syscall(SYS_setresuid, -1, 0, -1), 0);
  EXPECT_THAT(bridge, HasSubstr("nobr: there is no such bridge"));
  if (made.starts_with("/dev/net/tun")) {
    EXPECT_EQ(made,
              "/dev/net/tun: cannot open: Permission denied; run as root, or let everyone open it, "
              "which is safe: chmod 666 /dev/net/tun");
    EXPECT_EQ(used, made);
  } else {
    EXPECT_THAT(made, HasSubstr("creating one needs root"));
    EXPECT_THAT(used, HasSubstr("another user owns it"));
    EXPECT_THAT(absent, HasSubstr("there is no interface nosuch, and creating one needs root"));
  }
}

TEST_F(TapTest, BecomesAPortOfABridge) {
  ASSERT_TRUE(run("ip link add br7 type bridge && ip link set br7 up"));
  open({.interface = "wick0", .bridge = "br7"});
  EXPECT_TRUE(run("ip link show dev wick0 master br7 | grep wick0"));
  close();
  ASSERT_TRUE(run("ip tuntap add name there mode tap && ip link set there master br7"));
  open({.interface = "there", .bridge = "br7"});
  close();
  ASSERT_TRUE(run("ip link add br8 type bridge"));
  EXPECT_EQ(error_of({.interface = "there", .bridge = "br8"}),
            "there: cannot be added to bridge br8: Device or resource busy; it is on another "
            "bridge; leave bridge out");
}

TEST_F(TapTest, SaysWhatIsNoBridge) {
  EXPECT_EQ(error_of({.interface = "wick0", .bridge = "br9"}),
            "br9: there is no such bridge; wick net up br9 creates one");
  EXPECT_FALSE(exists("wick0")) << "and leaves nothing behind";
  EXPECT_THAT(error_of({.interface = "wick0", .bridge = "lo"}),
              HasSubstr("wick0: cannot be added to bridge lo: "));
  EXPECT_THAT(error_of({.interface = "wick0", .bridge = "lo"}), HasSubstr("is that a bridge?"));
  EXPECT_THAT(error_of({.interface = "wick0", .bridge = "sixteen-letters-"}),
              HasSubstr("there is no such bridge"));
}

TEST_F(TapTest, SetsTheMtu) {
  open({.interface = "wick0", .mtu = 9000});
  EXPECT_EQ(mtu("wick0"), 9000);
  close();
  open({.interface = "wick0", .mtu = 68});
  EXPECT_EQ(mtu("wick0"), 68);
  close();
  open({.interface = "wick0"});
  EXPECT_EQ(mtu("wick0"), 1500);
  close();
  EXPECT_THAT(error_of({.interface = "wick0", .mtu = 65535}),
              AllOf(HasSubstr("wick0: cannot set its MTU to 65535: "),
                    HasSubstr("as root: ip link set dev wick0 mtu 65535")));
}

TEST_F(TapTest, OfItsMakingTheGuestIsNoRouterToTheHost) {
  if (::access("/proc/sys/net/ipv6", F_OK) != 0) GTEST_SKIP() << "needs IPv6";
  const char* const believed = "ip -6 route show default dev wick0 | grep fe80::bad";
  open({.interface = "wick0"});
  send({}, fakes::router_advertisement());
  EXPECT_FALSE(run(believed));
  close();
  ASSERT_TRUE(run("ip tuntap add name wick0 mode tap"));
  open({.interface = "wick0"});
  send({}, fakes::router_advertisement());
  EXPECT_TRUE(run(believed)) << "who made it decides";
  close();
  ASSERT_TRUE(run("ip link del wick0"));
}

// --- packets ---

TEST_F(TapTest, CarriesFramesBothWays) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  for (const size_t payload : {0ul, 6ul, 1000ul, 1446ul}) {
    const Bytes frame = tcp_frame(payload);
    send({}, frame);
    const auto up = host_receive();
    ASSERT_TRUE(up);
    EXPECT_EQ(up->frame, frame);
    EXPECT_EQ(up->header.segmentation, PacketHeader::kNone);
    const int before = readable_[0];
    while (receive_now()) {
    }
    host_send({}, frame);
    EXPECT_TRUE(wait_for([&] { return readable_[0] > before; })) << "says that it is there";
    const auto down = receive();
    ASSERT_TRUE(down);
    EXPECT_EQ(down->frame, frame);
    EXPECT_EQ(down->header.segmentation, PacketHeader::kNone);
    EXPECT_EQ(down->header.flags & PacketHeader::kNeedsChecksum, 0);
  }
}

TEST_F(TapTest, TakesOffloadsFromItsUser) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  const Bytes frame = tcp_frame(5000);
  send(kSegmented, frame);
  const auto got = host_receive();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->frame, frame) << "still one";
  EXPECT_EQ(got->header.segmentation, PacketHeader::kTcp4);
  EXPECT_EQ(got->header.segment_bytes, 1000);
  EXPECT_EQ(got->header.flags & PacketHeader::kNeedsChecksum, PacketHeader::kNeedsChecksum);
}

TEST_F(TapTest, GivesOnlyTheOffloadsThatWereAskedFor) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  const Offloads supported = tap_->supported_offloads();
  EXPECT_TRUE(supported.checksum && supported.tcp4 && supported.tcp6);
  const Bytes frame = tcp_frame(5000);
  for (int i = 0; i < 2; ++i) {
    set_offloads(kTcpOffloads);
    host_send(kSegmented, frame);
    const auto whole = receive();
    ASSERT_TRUE(whole);
    EXPECT_EQ(whole->frame.size(), frame.size());
    EXPECT_EQ(whole->header.segmentation, PacketHeader::kTcp4);
    EXPECT_EQ(whole->header.segment_bytes, 1000);
    EXPECT_NE(whole->header.flags & PacketHeader::kNeedsChecksum, 0);

    set_offloads({.checksum = true});
    host_send(kSegmented, frame);
    for (int segment = 0; segment < 5; ++segment) {
      const auto part = receive();
      ASSERT_TRUE(part);
      EXPECT_EQ(part->frame.size(), 1054u);
      EXPECT_EQ(part->header.segmentation, PacketHeader::kNone);
    }

    set_offloads({.tcp4 = true});  // not valid without `checksum`
    host_send(kSegmented, frame);
    for (int segment = 0; segment < 5; ++segment) {
      const auto part = receive();
      ASSERT_TRUE(part);
      EXPECT_EQ(part->frame.size(), 1054u);
      EXPECT_EQ(part->header.flags & PacketHeader::kNeedsChecksum, 0);
    }
    EXPECT_TRUE(receives_nothing());
  }
}

TEST_F(TapTest, ShrugsAtPacketsThatAreNone) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  PacketHeader header;
  const iovec lone{&header, 3};
  loop().call([&] {
    tap_->send(0, {});
    tap_->send(0, {&lone, 1});
  });
  send({}, {});
  send({}, Bytes(13));
  send({.segmentation = 0x7f}, tcp_frame(100));
  send({.flags = 1, .checksum_start = 0xffff, .checksum_offset = 0xffff}, tcp_frame(100));
  send({.flags = 1, .segmentation = PacketHeader::kTcp4, .segment_bytes = 0}, tcp_frame(100));
  send({}, tcp_frame(200));
  EXPECT_EQ(host_receive()->frame, tcp_frame(200));
}

TEST_F(TapTest, PacketsThatNobodyTakesCauseNoEvents) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  for (int i = 0; i < 10; ++i) host_send({}, tcp_frame(100));
  EXPECT_TRUE(wait_for([&] { return readable_[0] > 0; }));
  for (int i = 0; i < 10; ++i) loop().call([] {});
  const int events = readable_[0];
  const int rounds = rounds_;
  for (int i = 0; i < 100; ++i) loop().call([] {});
  EXPECT_LE(readable_[0], events + 10) << "at most the host's own packets";
  EXPECT_LE(rounds_, rounds + 150);
  EXPECT_TRUE(receive());
}

// --- the link ---

TEST_F(TapTest, TellsWhenTheInterfaceGoesDownAndComesUp) {
  open({.interface = "wick0"});
  attach();
  EXPECT_TRUE(link_up());
  ASSERT_TRUE(run("ip link set wick0 down"));
  EXPECT_TRUE(wait_for([&] { return link_changes_ == 1; }));
  EXPECT_FALSE(link_up());
  send({}, tcp_frame(100));
  EXPECT_TRUE(receives_nothing());
  ASSERT_TRUE(run("ip link set wick0 up"));
  EXPECT_TRUE(wait_for([&] { return link_changes_ == 2; }));
  EXPECT_TRUE(link_up());
  ASSERT_TRUE(run("ip link add br7 type bridge && ip link set br7 up && ip link del br7"));
  for (int i = 0; i < 10; ++i) loop().call([] {});
  EXPECT_EQ(link_changes_, 2) << "others do not matter";
}

TEST_F(TapTest, KnowsItsInterfaceByAnyName) {
  open({.interface = "wick0"});
  attach();
  ASSERT_TRUE(run("ip link set wick0 down && ip link set wick0 name other"));
  EXPECT_TRUE(wait_for([&] { return !link_up(); }));
  ASSERT_TRUE(run("ip link set other up"));
  EXPECT_TRUE(wait_for([&] { return link_up(); }));
  ASSERT_TRUE(run("ip link set other down"));
  EXPECT_TRUE(wait_for([&] { return !link_up(); }));
}

TEST_F(TapTest, AnInterfaceThatIsDeletedIsALinkThatIsDown) {
  open({.interface = "wick0", .queues = 2});
  attach();
  set_active_pairs(2);
  open_host("wick0");
  for (int i = 0; i < 10; ++i) host_send({}, tcp_frame(100));
  ASSERT_TRUE(run("ip link del wick0"));
  EXPECT_TRUE(wait_for([&] { return !link_up(); }));
  EXPECT_EQ(link_changes_, 1);
  for (int i = 0; i < 10; ++i) loop().call([] {});
  const int rounds = rounds_;
  const int events = readable_[0] + readable_[1];
  for (int i = 0; i < 100; ++i) loop().call([] {});
  EXPECT_LE(rounds_, rounds + 110) << "it spins";
  EXPECT_LE(readable_[0] + readable_[1], events + 2);
  send({}, tcp_frame(100));
  send({}, tcp_frame(100), 1);
  while (receive_now() || receive_now(1)) {
  }
  set_offloads(kTcpOffloads);
  set_active_pairs(1);
  set_active_pairs(2);
  EXPECT_FALSE(link_up());
  close();
  EXPECT_EQ(error_of({.interface = "wick0"}), "no error");
}

// --- several queues, and several users one after the other ---

TEST_F(TapTest, GivesPacketsToTheActiveQueuesOnly) {
  open({.interface = "wick0", .queues = 4});
  EXPECT_EQ(tap_->queue_pairs(), 4);
  attach();
  open_host("wick0");
  const auto count = [&](uint16_t pair) {
    int packets = 0;
    while (const auto packet = receive_now(pair))
      if (load_be<uint16_t>(std::span(packet->frame).subspan(12)) == ETH_P_IP) ++packets;
    return packets;
  };
  for (const uint16_t active : std::to_array<uint16_t>({1, 4, 2, 1, 3, 4})) {
    SCOPED_TRACE(active);
    set_active_pairs(active);
    host_send_flows(200);
    int all = 0;
    for (uint16_t pair = 0; pair < 4; ++pair) {
      const int packets = count(pair);
      EXPECT_EQ(packets > 0, pair < active) << pair;
      all += packets;
    }
    EXPECT_EQ(all, 200);
  }
  for (uint16_t pair = 0; pair < 4; ++pair) {
    EXPECT_GT(readable_[pair], 0) << pair;
    send({}, tcp_frame(100, static_cast<uint8_t>(pair)), pair);
    EXPECT_EQ(host_receive()->frame, tcp_frame(100, static_cast<uint8_t>(pair)));
  }
}

TEST_F(TapTest, CanBeAttachedAgain) {
  open({.interface = "wick0", .queues = 2});
  attach();
  open_host("wick0");
  set_active_pairs(2);
  detach();
  const int before = readable_[0] + readable_[1];
  host_send({}, tcp_frame(100));
  ASSERT_TRUE(run("ip link set wick0 down"));
  for (int i = 0; i < 10; ++i) loop().call([] {});
  EXPECT_EQ(readable_[0] + readable_[1], before);
  EXPECT_EQ(link_changes_, 0);

  attach();
  EXPECT_FALSE(link_up());
  ASSERT_TRUE(run("ip link set wick0 up"));
  EXPECT_TRUE(wait_for([&] { return link_changes_ == 1; }));
  while (receive_now()) {
  }
  open_host("wick0");
  host_send_flows(50);
  int packets = 0;
  while (const auto packet = receive_now())
    if (load_be<uint16_t>(std::span(packet->frame).subspan(12)) == ETH_P_IP) ++packets;
  EXPECT_EQ(packets, 50) << "one queue, as in the beginning";
}

}  // namespace
}  // namespace wick::net
