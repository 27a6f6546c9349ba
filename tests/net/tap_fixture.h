// Test fixture: a TAP in a network namespace of its own, with both of its ends.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "net/tap.h"
#include "tests/fakes/frames.h"
#include "tests/fakes/wait_for.h"

namespace wick::net {

using fakes::wait_for;
using Bytes = std::vector<std::byte>;

constexpr int kHostHeaderBytes = 10;  // of PACKET_VNET_HDR: without `buffers`

struct Packet {
  PacketHeader header;
  Bytes frame;
};

// An IPv4 and TCP frame from 10.9.0.2 to 10.9.0.1 whose checksum is left to the receiver.
inline Bytes tcp_frame(size_t payload_bytes, uint8_t seed = 1) {
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
    loop().call([&] {
      round_end_ = loop().at_round_end([&] {
        ++rounds_;
        return false;
      });
    });
  }
  void TearDown() override {
    close();
    if (thread_) thread_->stop();
    round_end_.reset();
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
  EventLoop::RoundEnd round_end_;
  std::atomic<int> rounds_ = 0;
  std::array<std::atomic<int>, 16> readable_{};
  std::atomic<int> link_changes_ = 0;
};

}  // namespace wick::net
