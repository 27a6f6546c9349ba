#include "net/offload.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <random>
#include <thread>

#include "base/fd.h"
#include "tests/fakes/frames.h"

namespace wick::net {
namespace {

using namespace fakes;  // NOLINT: frames are all that this file is about
using testing::HasSubstr;

constexpr Mac kTo = {0x02, 0, 0, 0, 0, 2};
constexpr Mac kFrom = {0x02, 0, 0, 0, 0, 1};
constexpr uint32_t kFrom4 = 0x0a000001;
constexpr uint32_t kTo4 = 0x0a000002;
constexpr Ip6Address kFrom6 = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr Ip6Address kTo6 = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};

struct Packet {
  PacketHeader header;
  Bytes frame;

  Bytes bytes() const {
    Bytes all(sizeof(header));
    store_le(std::span(all), header);
    append(all, frame);
    return all;
  }
};

// A packet whose transport checksum is still to be filled in.
Packet partial4(uint8_t protocol, const Bytes& transport, Ip4Header ip = {}) {
  ip.from = kFrom4;
  ip.to = kTo4;
  ip.protocol = protocol;
  const auto summed = with_partial_checksum(transport, protocol,
                                            pseudo_sum4(kFrom4, kTo4, protocol, transport.size()));
  Packet packet;
  packet.frame = ethernet(kTo, kFrom, kIp4Type, ip4(ip, summed));
  packet.header.flags = PacketHeader::kNeedsChecksum;
  packet.header.checksum_start = static_cast<uint16_t>(34 + ip.options.size());
  packet.header.checksum_offset = static_cast<uint16_t>(checksum_place(protocol));
  return packet;
}

Packet partial6(uint8_t protocol, const Bytes& transport) {
  const auto summed = with_partial_checksum(transport, protocol,
                                            pseudo_sum6(kFrom6, kTo6, protocol, transport.size()));
  Packet packet;
  packet.frame = ethernet(kTo, kFrom, kIp6Type, ip6(kFrom6, kTo6, protocol, summed));
  packet.header.flags = PacketHeader::kNeedsChecksum;
  packet.header.checksum_start = 54;
  packet.header.checksum_offset = static_cast<uint16_t>(checksum_place(protocol));
  return packet;
}

Packet large(Packet packet, uint8_t segmentation, uint16_t segment_bytes) {
  packet.header.segmentation = segmentation;
  packet.header.segment_bytes = segment_bytes;
  return packet;
}

Packet tagged(Packet packet) {
  packet.frame = with_vlan(packet.frame, 0x0123);
  packet.header.checksum_start = static_cast<uint16_t>(packet.header.checksum_start + 4);
  return packet;
}

Result<std::vector<Bytes>> finish(const Packet& packet) {
  Bytes bytes = packet.bytes();
  auto finished = TRY(Segmenter::create(bytes));
  std::vector<Bytes> frames;
  for (auto frame = finished.next(); !frame.empty(); frame = finished.next())
    frames.emplace_back(frame.begin(), frame.end());
  return frames;
}

std::string refusal(const Packet& packet) {
  const auto frames = finish(packet);
  return frames ? "taken" : frames.error().message();
}

// The timestamp option, as most connections have it.
Bytes timestamps() {
  Bytes options;
  append32(options, 0x0101080a);
  append32(options, 0x11223344);
  append32(options, 0x55667788);
  return options;
}

Bytes tcp_of(size_t payload_bytes, uint8_t flags = kAck) {
  return tcp({.from = 1000,
              .to = 80,
              .sequence = 0xffffff00,  // wraps
              .acknowledged = 77,
              .flags = flags,
              .window = 500,
              .options = timestamps()},
             counting_bytes(payload_bytes));
}

// --- checksums ---

TEST(Checksum, IsTheOneOfRfc1071) {
  // The RFC's own example, in section 3.
  const auto bytes = Bytes{std::byte{0x00}, std::byte{0x01}, std::byte{0xf2}, std::byte{0x03},
                           std::byte{0xf4}, std::byte{0xf5}, std::byte{0xf6}, std::byte{0xf7}};
  EXPECT_EQ(fold_checksum(add_to_checksum(0, bytes)), static_cast<uint16_t>(~0xddf2));
  std::mt19937 random(1);
  for (size_t size = 0; size < 300; ++size) {
    Bytes text(size);
    for (std::byte& byte : text) byte = static_cast<std::byte>(random());
    const auto seed = static_cast<uint32_t>(random() & 0x3ffff);
    EXPECT_EQ(fold_checksum(add_to_checksum(seed, text)),
              static_cast<uint16_t>(~ones_complement_sum(text, (seed & 0xffff) + (seed >> 16))))
        << size;
  }
  const Bytes ones(65551, std::byte{0xff});
  EXPECT_EQ(fold_checksum(add_to_checksum(0xffff, ones)),
            static_cast<uint16_t>(~ones_complement_sum(ones, 0xffff)));
}

TEST(Offload, FillsInAChecksum) {
  for (const size_t size : {0u, 1u, 2u, 999u, 1000u}) {
    const auto payload = counting_bytes(size);
    const auto frames = finish(partial4(kUdp, udp(5, 6, payload))).value();
    ASSERT_EQ(frames.size(), 1u);
    const auto wanted = with_checksum(udp(5, 6, payload), kUdp,
                                      pseudo_sum4(kFrom4, kTo4, kUdp, 8 + payload.size()));
    EXPECT_EQ(Bytes(frames[0].begin() + 34, frames[0].end()), wanted);
  }
}

TEST(Offload, LeavesAPlainFrameAsItIs) {
  const Packet packet{.header = {}, .frame = counting_bytes(3)};
  EXPECT_EQ(finish(packet).value(), std::vector<Bytes>({packet.frame}));
  Packet valid = packet;
  valid.header.flags = PacketHeader::kChecksumValid;
  EXPECT_EQ(finish(valid).value(), std::vector<Bytes>({packet.frame}));
}

// --- segments ---

TEST(Offload, CutsTcpIntoSegmentsThatAreRightByThemselves) {
  const uint8_t flags = kAck | kFin | kPsh | kCwr;
  const auto packet =
      large(partial4(kTcp, tcp_of(2500, flags)), PacketHeader::kTcp4 | PacketHeader::kEcn, 1000);
  const auto frames = finish(packet).value();
  ASSERT_EQ(frames.size(), 3u);
  Bytes payload;
  for (size_t i = 0; i < frames.size(); ++i) {
    const std::span<const std::byte> ip = std::span(frames[i]).subspan(14);
    const auto segment = ip.subspan(20);
    EXPECT_EQ(ones_complement_sum(ip.first(20)), 0xffff);
    EXPECT_EQ(get16(ip, 2), ip.size());
    EXPECT_EQ(get16(ip, 4), 0x1234 + i);
    EXPECT_EQ(ones_complement_sum(segment, pseudo_sum4(kFrom4, kTo4, kTcp, segment.size())),
              0xffff);
    EXPECT_EQ(get32(segment, 4), 0xffffff00 + static_cast<uint32_t>(i * 1000));
    EXPECT_EQ(get8(segment, 13), i == 0 ? kAck | kCwr : i == 1 ? kAck : kAck | kFin | kPsh);
    append(payload, segment.subspan(32));
  }
  EXPECT_EQ(payload, counting_bytes(2500));
}

TEST(Offload, CutsTcpOverIp6AndUdpAndBehindAVlanTag) {
  EXPECT_EQ(finish(large(partial6(kTcp, tcp_of(3000)), PacketHeader::kTcp6, 1000))->size(), 3u);
  EXPECT_EQ(finish(tagged(large(partial6(kTcp, tcp_of(3000)), PacketHeader::kTcp6, 999)))->size(),
            4u);
  const auto datagrams =
      finish(large(partial4(kUdp, udp(1, 2, counting_bytes(250))), PacketHeader::kUdp, 100))
          .value();
  ASSERT_EQ(datagrams.size(), 3u);
  const std::span<const std::byte> last = std::span(datagrams[2]).subspan(34);
  EXPECT_EQ(last.size(), 58u);
  EXPECT_EQ(get16(last, 4), 58u);
  EXPECT_EQ(ones_complement_sum(last, pseudo_sum4(kFrom4, kTo4, kUdp, 58)), 0xffff);
}

TEST(Offload, LeavesAPacketWholeThatNeedsNoCutting) {
  for (const uint16_t segment_bytes : std::array<uint16_t, 3>{500, 501, 65535}) {
    const auto frames = finish(large(partial4(kTcp, tcp_of(500, kAck | kPsh | kCwr)),
                                     PacketHeader::kTcp4, segment_bytes))
                            .value();
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(get8(frames[0], 34 + 13), kAck | kPsh | kCwr);
  }
}

TEST(Offload, CutsTheLargestPacketIntoABoundedNumberOfSegments) {
  const auto most = tcp_of(65535 - 20 - 32);
  const auto frames = finish(large(partial4(kTcp, most), PacketHeader::kTcp4, 32)).value();
  EXPECT_EQ(frames.size(), (65535u - 52 + 31) / 32);
  EXPECT_LE(frames.size(), kMaxSegments);
  EXPECT_THAT(refusal(large(partial4(kTcp, most), PacketHeader::kTcp4, 31)),
              HasSubstr("segments in one packet"));
  EXPECT_THAT(refusal(large(partial4(kTcp, most), PacketHeader::kTcp4, 1)),
              HasSubstr("segments in one packet"));
}

// --- hostile packets ---

TEST(Offload, RefusesAPacketThatIsTooShortOrTooLong) {
  Bytes nothing;
  EXPECT_FALSE(Segmenter::create(nothing));
  Bytes cut(sizeof(PacketHeader) - 1);
  EXPECT_FALSE(Segmenter::create(cut));
  EXPECT_THAT(refusal({.header = {}, .frame = Bytes(kMaxFrameBytes + 1)}), HasSubstr("a frame of"));
  EXPECT_EQ(refusal({.header = {}, .frame = Bytes(kMaxFrameBytes)}), "taken");
}

TEST(Offload, RefusesAChecksumOutsideTheFrame) {
  Packet packet = partial4(kUdp, udp(1, 2, counting_bytes(10)));
  const auto size = static_cast<uint16_t>(packet.frame.size());
  const auto with = [&](uint16_t start, uint16_t offset) {
    packet.header.checksum_start = start;
    packet.header.checksum_offset = offset;
    return refusal(packet);
  };
  EXPECT_EQ(with(static_cast<uint16_t>(size - 2), 0), "taken");
  EXPECT_EQ(with(0, static_cast<uint16_t>(size - 2)), "taken");
  EXPECT_THAT(with(static_cast<uint16_t>(size - 1), 0), HasSubstr("outside the frame"));
  EXPECT_THAT(with(0, static_cast<uint16_t>(size - 1)), HasSubstr("outside the frame"));
  EXPECT_THAT(with(65535, 65535), HasSubstr("outside the frame"));
  EXPECT_THAT(with(size, 0), HasSubstr("outside the frame"));
}

TEST(Offload, RefusesSegmentationThatContradictsThePacket) {
  const auto good = large(partial4(kTcp, tcp_of(3000)), PacketHeader::kTcp4, 1000);
  const auto change = [&](auto what) {
    Packet packet = good;
    what(packet);
    return refusal(packet);
  };
  EXPECT_EQ(change([](Packet&) {}), "taken");
  // header_bytes is only a hint: the frame's own headers count.
  EXPECT_EQ(change([](Packet& p) { p.header.header_bytes = 65535; }), "taken");
  EXPECT_THAT(change([](Packet& p) { p.header.segment_bytes = 0; }), HasSubstr("of 0 bytes"));
  EXPECT_THAT(change([](Packet& p) { p.header.segmentation = PacketHeader::kFragments; }),
              HasSubstr("not offered"));
  EXPECT_THAT(change([](Packet& p) { p.header.segmentation = 0x7f; }), HasSubstr("not offered"));
  EXPECT_THAT(change([](Packet& p) { p.header.segmentation = PacketHeader::kTcp6; }),
              HasSubstr("another protocol"));
  EXPECT_THAT(change([](Packet& p) { p.header.segmentation = PacketHeader::kUdp; }),
              HasSubstr("another transport"));
  EXPECT_THAT(
      change([](Packet& p) { p.header.segmentation = PacketHeader::kUdp | PacketHeader::kEcn; }),
      HasSubstr("not offered"));
  EXPECT_THAT(change([](Packet& p) { p.header.flags = 0; }), HasSubstr("without the transport"));
  EXPECT_THAT(change([](Packet& p) { p.header.checksum_start = 14; }),
              HasSubstr("without the transport"));
  EXPECT_THAT(change([](Packet& p) { p.header.checksum_offset = 6; }),
              HasSubstr("without the transport"));
  const auto byte = [&](size_t at, uint8_t value) {
    return change([&](Packet& p) { p.frame[at] = std::byte{value}; });
  };
  EXPECT_THAT(byte(14, 0x44), HasSubstr("wrong length"));  // 16 bytes of IPv4 header
  EXPECT_THAT(byte(14, 0x65),
              HasSubstr("wrong length"));  // version 6 in a frame of type IPv4
  EXPECT_THAT(byte(20, 0x20), HasSubstr("fragment"));
  EXPECT_THAT(byte(21, 0x01), HasSubstr("fragment"));
  EXPECT_EQ(byte(20, 0x40), "taken");  // do not fragment
  EXPECT_THAT(byte(23, kUdp), HasSubstr("another transport"));
  EXPECT_THAT(byte(46, 0x40), HasSubstr("TCP header with a wrong length"));
  EXPECT_THAT(byte(12, 0x86), HasSubstr("another protocol"));

  Packet extended = large(partial6(kTcp, tcp_of(3000)), PacketHeader::kTcp6, 1000);
  extended.frame[20] = std::byte{0};  // hop-by-hop options
  EXPECT_THAT(refusal(extended), HasSubstr("another transport"));
}

TEST(Offload, RefusesSegmentationOfAFrameCutAnywhere) {
  for (const auto& whole :
       {large(partial4(kTcp, tcp_of(10)), PacketHeader::kTcp4, 4),
        large(partial6(kTcp, tcp_of(10)), PacketHeader::kTcp6, 4),
        large(partial4(kUdp, udp(1, 2, counting_bytes(10))), PacketHeader::kUdp, 4),
        tagged(large(partial4(kTcp, tcp_of(10)), PacketHeader::kTcp4, 4))}) {
    const size_t headers = whole.frame.size() - 10;
    for (size_t size = 0; size < whole.frame.size(); ++size) {
      Packet packet = whole;
      packet.frame.resize(size);
      EXPECT_EQ(refusal(packet) == "taken", size >= headers) << size;
    }
  }
}

TEST(Offload, NeverLeavesTheFrameWhateverTheHeaderSays) {
  std::mt19937 random(2);
  const auto good = large(partial4(kTcp, tcp_of(300)), PacketHeader::kTcp4, 100);
  for (int round = 0; round < 100'000; ++round) {
    Bytes bytes = good.bytes();
    bytes.resize(bytes.size() - random() % 2 * (random() % 200));
    for (int change = 0; change < 3; ++change) {
      // A byte of the PacketHeader or of the frame's headers.
      bytes[random() % 80] = static_cast<std::byte>(random());
    }
    const std::byte* const begin = bytes.data() + sizeof(PacketHeader);
    const std::byte* const end = bytes.data() + bytes.size();
    size_t frames = 0;
    auto finished = Segmenter::create(bytes);
    if (!finished) continue;
    for (auto frame = finished->next(); !frame.empty(); frame = finished->next()) {
      ++frames;
      EXPECT_TRUE(frame.data() >= begin && frame.data() + frame.size() <= end);
    }
    EXPECT_LE(frames, kMaxSegments);
  }
}

// --- the kernel as the oracle ---

// Two TAPs on a bridge, in a network namespace of the thread that created them: the first
// takes packets with a header, the second returns plain frames.
class KernelOffload {
 public:
  // The reason why it is not available, or an empty string.
  std::string open() {
    if (::unshare(CLONE_NEWNET) != 0) return "no network namespaces here";
    in_ = open_tap("in", IFF_VNET_HDR);
    out_ = open_tap("out", 0);
    if (!in_.valid() || !out_.valid()) return "no TAPs here";
    const int header_bytes = sizeof(PacketHeader);
    if (::ioctl(in_.get(), TUNSETVNETHDRSZ, &header_bytes) != 0 ||
        ::ioctl(out_.get(), TUNSETOFFLOAD, 0) != 0)
      return "no offloads on TAPs here";
    control_ = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (::ioctl(control_.get(), SIOCBRADDBR, "br") != 0) return "no bridges here";
    for (const char* const name : {"in", "out"}) {
      ifreq request = named("br");
      request.ifr_ifindex = static_cast<int>(::if_nametoindex(name));
      if (::ioctl(control_.get(), SIOCBRADDIF, &request) != 0) return "no bridge ports here";
    }
    for (const char* const name : {"in", "out", "br"}) {
      ifreq request = named(name);
      request.ifr_flags = IFF_UP;
      if (::ioctl(control_.get(), SIOCSIFFLAGS, &request) != 0) return "cannot raise a link";
    }
    return "";
  }

  // errno, or 0.
  int put(const Bytes& packet) const {
    return ::write(in_.get(), packet.data(), packet.size()) < 0 ? errno : 0;
  }

  // The next frame from our station; empty if none comes.
  Bytes take() const {
    for (;;) {
      pollfd ready{.fd = out_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, 5000) != 1) return {};
      Bytes frame(kMaxFrameBytes);
      const ssize_t size = ::read(out_.get(), frame.data(), frame.size());
      if (size < 14) return {};
      frame.resize(static_cast<size_t>(size));
      // The host's own stack may send something on a new link.
      if (std::equal(kFrom.begin(), kFrom.end(), frame.begin() + 6,
                     [](uint8_t a, std::byte b) { return std::byte{a} == b; }))
        return frame;
    }
  }

 private:
  static ifreq named(const char* name) {
    ifreq request{};
    std::strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    return request;
  }
  static Fd open_tap(const char* name, int flags) {
    Fd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request = named(name);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | flags);
    if (fd.valid() && ::ioctl(fd.get(), TUNSETIFF, &request) != 0) fd.close();
    return fd;
  }

  Fd in_;
  Fd out_;
  Fd control_;
};

void compare_with_kernel(const KernelOffload& kernel, const Packet& packet, const char* what) {
  SCOPED_TRACE(what);
  const int error = kernel.put(packet.bytes());
  // Linux before 6.2 does not support UDP segmentation from a TAP.
  if (error == EINVAL && packet.header.segmentation == PacketHeader::kUdp) return;
  ASSERT_EQ(error, 0);
  const auto ours = finish(packet);
  ASSERT_TRUE(ours) << ours.error().message();
  for (const Bytes& frame : *ours) {
    const Bytes theirs = kernel.take();
    ASSERT_EQ(theirs.size(), frame.size());
    for (size_t i = 0; i < frame.size(); ++i) ASSERT_EQ(theirs[i], frame[i]) << "at byte " << i;
  }
}

TEST(Offload, MakesTheFramesThatTheKernelMakes) {
  std::string missing;
  // Runs on a separate thread, whose network namespace ends with it.
  std::thread([&] {
    KernelOffload kernel;
    missing = kernel.open();
    if (!missing.empty()) return;
    std::mt19937 random(3);
    for (int round = 0; round < 200 && !testing::Test::HasFailure(); ++round) {
      const size_t size = random() % (round % 10 == 0 ? 60000 : 6000);
      const auto segment_bytes = static_cast<uint16_t>(88 + random() % 1300);
      const auto flags = static_cast<uint8_t>(kAck | (random() & (kFin | kPsh | kCwr | 0x40)));
      const uint8_t ecn = (random() & 1) != 0 ? PacketHeader::kEcn : PacketHeader::kNone;
      Ip4Header ip;
      ip.id = static_cast<uint16_t>(random());
      ip.fragment = (random() & 1) != 0 ? 0x4000 : 0;
      ip.tos = static_cast<uint8_t>(random());
      if (random() % 4 == 0) ip.options = Bytes(4, std::byte{1});
      const auto tcp4 = partial4(kTcp, tcp_of(size, flags), ip);
      const auto tcp6 = partial6(kTcp, tcp_of(size, flags));
      const auto kind = [&](uint8_t base) { return static_cast<uint8_t>(base | ecn); };
      compare_with_kernel(kernel, large(tcp4, kind(PacketHeader::kTcp4), segment_bytes), "TCP4");
      compare_with_kernel(kernel, large(tcp6, kind(PacketHeader::kTcp6), segment_bytes), "TCP6");
      compare_with_kernel(kernel, tagged(large(tcp4, kind(PacketHeader::kTcp4), segment_bytes)),
                          "TCP4 in a VLAN");
      // The kernel cuts one packet into 128 datagrams at most.
      const auto datagrams = udp(9, 10, counting_bytes(size % (segment_bytes * 64u)));
      compare_with_kernel(
          kernel, large(partial4(kUdp, datagrams, ip), PacketHeader::kUdp, segment_bytes), "UDP4");
      compare_with_kernel(
          kernel, large(partial6(kUdp, datagrams), PacketHeader::kUdp, segment_bytes), "UDP6");
      const auto small = counting_bytes(size % 1400, static_cast<uint8_t>(round));
      compare_with_kernel(kernel, partial4(kUdp, udp(9, 10, small), ip), "a checksum of UDP4");
      compare_with_kernel(kernel, partial6(kUdp, udp(9, 10, small)), "a checksum of UDP6");
      compare_with_kernel(kernel, partial4(kTcp, tcp_of(small.size()), ip), "a checksum of TCP4");
    }
  }).join();
  if (!missing.empty()) GTEST_SKIP() << missing;
}

}  // namespace
}  // namespace wick::net
