// A guest that sends anything to a user network, and a host that does anything to its
// connections. The network gives the guest whole frames with a plain header, keeps a bounded
// amount of data, and calls nothing after detach().
//
// Runs in a network namespace with only a loopback. If that cannot be made, uses a restricted
// network, which opens no sockets.
#include "net/user.h"

#include <arpa/inet.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <net/if.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <map>

#include "base/fd.h"
#include "tests/fakes/frames.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using namespace wick::fakes;

constexpr Mac kGuestMac = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
constexpr Mac kRouterMac = {0x52, 0x55, 10, 0, 2, 2};
constexpr uint32_t kGuest4 = 0x0a00020f;
constexpr uint32_t kHost4 = 0x0a000202;
constexpr Ip6Address kGuest6 = {0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};
constexpr Ip6Address kHost6 = {0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
constexpr uint16_t kServed = 7;  // on the loopback
constexpr uint16_t kForwarded = 2222;

// State of the whole process, kept from the first input on.
struct Host {
  bool alone = false;  // in its own network namespace
  Fd tcp;
  Fd udp;
};

sockaddr_in loopback(uint16_t port) {
  return {.sin_family = AF_INET,
          .sin_port = htons(port),
          .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
          .sin_zero = {}};
}

Fd bound(int type) {
  Fd fd(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto address = loopback(kServed);
  fuzz::require(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
                0);
  return fd;
}

const Host& host() {
  static const Host only = [] {
    std::signal(SIGPIPE, SIG_IGN);
    spdlog::set_level(spdlog::level::off);
    Host made;
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return made;
    const Fd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq up{};
    up.ifr_name[0] = 'l';
    up.ifr_name[1] = 'o';
    up.ifr_flags = IFF_UP;
    if (::ioctl(control.get(), SIOCSIFFLAGS, &up) != 0) return made;
    made.alone = true;
    made.tcp = bound(SOCK_STREAM);
    made.udp = bound(SOCK_DGRAM);
    fuzz::require(::listen(made.tcp.get(), 64) == 0);
    return made;
  }();
  return only;
}

class Session {
 public:
  explicit Session(FuzzedDataProvider& input) : input_(input) {
    net::UserNetwork config{.name = "fuzz", .host_name = "fuzz"};
    config.restricted = !host().alone;
    if (host().alone) config.forwards = {{.host_port = kForwarded, .guest_port = 80}};
    backend_ = net::open_user(config).value();
    attach();
    send(arp());
  }
  ~Session() {
    backend_.reset();
    attached_ = false;
    fuzz::run_loop();
    while (Fd(::accept(host().tcp.get(), nullptr, nullptr)).valid()) {
    }
  }

  void step() {
    switch (input_.ConsumeIntegralInRange(0, 15)) {
      case 0:
        send(input_.ConsumeBytes<std::byte>(input_.ConsumeIntegralInRange(0, 200)));
        break;
      case 1:
        send_dhcp();
        break;
      case 2:
        send(ip4_frame(kUdp, udp(port(), pick({kServed, 9, 67, 69, 53, 547}), payload())));
        break;
      case 3:
        send(ip4_frame(kIcmp, icmp()));
        break;
      case 4:
        send(ip6_frame());
        break;
      case 5:
        take();
        break;
      case 6:
        if (attached_)
          backend_->detach();
        else
          attach();
        attached_ = !attached_;
        break;
      case 7:
        serve();
        break;
      case 8:
        come_in();
        break;
      case 9:
      case 10:
        fuzz::run_loop();
        break;
      default:
        send_tcp();
    }
  }

 private:
  void attach() {
    fuzz::require(
        backend_
            ->attach(fuzz::loop(),
                     {.readable = [this](uint16_t pair) { fuzz::require(pair == 0 && attached_); },
                      .link_changed = [] {}})
            .has_value());
  }

  uint16_t pick(std::initializer_list<uint16_t> among) {
    return *(among.begin() + input_.ConsumeIntegralInRange<size_t>(0, among.size() - 1));
  }
  uint16_t port() { return static_cast<uint16_t>(1000 + input_.ConsumeIntegralInRange(0, 3)); }
  Bytes payload() {
    Bytes bytes = counting_bytes(input_.ConsumeIntegralInRange<size_t>(0, 1500));
    const auto head = input_.ConsumeBytes<std::byte>(input_.ConsumeIntegralInRange(0, 16));
    std::copy_n(head.begin(), std::min(head.size(), bytes.size()), bytes.begin());
    return bytes;
  }
  Bytes options() {
    Bytes bytes = input_.ConsumeBytes<std::byte>(input_.ConsumeIntegralInRange(0, 5) * 4);
    bytes.resize(bytes.size() / 4 * 4);
    return bytes;
  }

  static Bytes arp() {
    Bytes packet;
    append32(packet, 0x00010800);
    append32(packet, 0x06040001);
    for (const uint8_t byte : kGuestMac) append8(packet, byte);
    append32(packet, kGuest4);
    for (int i = 0; i < 6; ++i) append8(packet, 0);
    append32(packet, kGuest4);
    return ethernet(kRouterMac, kGuestMac, kArpType, packet);
  }

  // Mostly with correct checksums.
  Bytes ip4_frame(uint8_t protocol, const Bytes& transport) {
    const uint32_t to = input_.ConsumeIntegralInRange(0, 7) > 0 ? kHost4 : 0xffffffff;
    const uint16_t pseudo =
        protocol == kIcmp ? uint16_t{0} : pseudo_sum4(kGuest4, to, protocol, transport.size());
    Ip4Header header{.from = kGuest4, .to = to, .protocol = protocol};
    if (input_.ConsumeIntegralInRange(0, 3) == 0) {
      header.fragment = input_.ConsumeIntegral<uint16_t>();
      header.id = pick({1, 2});
      header.options = options();
    }
    return ethernet(kRouterMac, kGuestMac, kIp4Type,
                    ip4(header, with_checksum(transport, protocol, pseudo)));
  }

  Bytes icmp() {
    Bytes message;
    append16(message, input_.ConsumeIntegral<uint16_t>());
    append16(message, 0);
    append(message, payload());
    return message;
  }

  Bytes ip6_frame() {
    Bytes transport;
    const uint16_t next = pick({kUdp, kTcp, 58});
    if (next == kUdp) {
      transport = udp(port(), pick({kServed, 9, 547, 53}), payload());
    } else if (next == kTcp) {
      transport = tcp({.from = port(), .to = kServed, .flags = input_.ConsumeIntegral<uint8_t>()},
                      payload());
    } else {
      transport = icmp();
      transport.resize(std::max<size_t>(transport.size(), 8));
    }
    const auto protocol = static_cast<uint8_t>(next);
    const auto summed = with_checksum(transport, protocol == 58 ? kIcmp : protocol,
                                      pseudo_sum6(kGuest6, kHost6, protocol, transport.size()));
    return ethernet(kRouterMac, kGuestMac, kIp6Type, ip6(kGuest6, kHost6, protocol, summed));
  }

  void send_dhcp() {
    Bytes packet;
    append32(packet, 0x01010600);
    packet.resize(28);
    append8(packet, input_.ConsumeIntegralInRange<uint8_t>(0, 40));
    packet.resize(236);
    append32(packet, 0x63825363);
    append(packet, input_.ConsumeBytes<std::byte>(input_.ConsumeIntegralInRange(0, 40)));
    packet.resize(input_.ConsumeIntegralInRange<size_t>(236, 700));
    send(ip4_frame(kUdp, udp(68, 67, packet)));
  }

  // Sends a segment with the expected sequence number, or near it, and with any flags.
  void send_tcp() {
    const uint16_t local = input_.ConsumeIntegralInRange(0, 3) == 0 ? 80 : port();
    const uint16_t remote = local == 80 ? visitor_ : kServed;
    auto& flow = flows_[{local, remote}];
    const auto near = [&] {
      return input_.ConsumeIntegralInRange(0, 3) == 0
                 ? input_.ConsumeIntegralInRange<int32_t>(-3000, 70000)
                 : 0;
    };
    TcpHeader header{.from = local,
                     .to = remote,
                     .sequence = flow.sequence + static_cast<uint32_t>(near()),
                     .acknowledged = flow.acknowledged + static_cast<uint32_t>(near()),
                     .flags = static_cast<uint8_t>(pick({kSyn, kAck, kSyn | kAck, kFin | kAck,
                                                         kAck | kUrg, kRst, kRst | kAck, 0xff})),
                     .window = pick({0, 1, 1000, 65535}),
                     .urgent = pick({0, 1, 3000, 65535}),
                     .options = options()};
    if (input_.ConsumeIntegralInRange(0, 7) > 0) {
      send(ip4_frame(kTcp, tcp(header, payload())));
      return;
    }
    // As a guest that leaves the segmentation to its card.
    const auto segment = tcp(header, counting_bytes(input_.ConsumeIntegralInRange(0, 30000)));
    net::PacketHeader large;
    large.flags = net::PacketHeader::kNeedsChecksum;
    large.segmentation = net::PacketHeader::kTcp4;
    large.segment_bytes = pick({100, 1460, 1461, 9000});
    large.checksum_start = 34;
    large.checksum_offset = 16;
    send(ethernet(kRouterMac, kGuestMac, kIp4Type,
                  ip4({.from = kGuest4, .to = kHost4, .protocol = kTcp},
                      with_partial_checksum(segment, kTcp,
                                            pseudo_sum4(kGuest4, kHost4, kTcp, segment.size())))),
         large);
  }

  void send(const Bytes& frame, net::PacketHeader header = {}) {
    if (header.flags == 0 && input_.ConsumeIntegralInRange(0, 15) == 0) {
      const auto random = input_.ConsumeBytes<std::byte>(sizeof(header));
      header = load_le<net::PacketHeader>(random);
    }
    Bytes packet(sizeof(header));
    store_le(std::span(packet), header);
    append(packet, frame);
    const size_t first = std::min<size_t>(packet.size(), input_.ConsumeIntegralInRange(0, 40));
    const std::array<iovec, 2> parts = {iovec{packet.data(), first},
                                        iovec{packet.data() + first, packet.size() - first}};
    backend_->send(0, parts);
  }

  void take() {
    Bytes room(net::kMaxPacketBytes);
    const size_t offered = input_.ConsumeIntegralInRange<size_t>(0, 3) == 0
                               ? input_.ConsumeIntegralInRange<size_t>(0, 100)
                               : room.size();
    size_t frames = 0;
    for (;;) {
      const size_t first = std::min<size_t>(offered, 13);
      const std::array<iovec, 2> parts = {iovec{room.data(), first},
                                          iovec{room.data() + first, offered - first}};
      const size_t size = backend_->receive(0, parts);
      fuzz::require(size <= offered);
      if (size == 0) return;
      fuzz::require(++frames < 40'000);
      learn(std::span(room).first(size));
    }
  }

  void learn(std::span<const std::byte> packet) {
    if (packet.size() < sizeof(net::PacketHeader) + 54) return;
    const auto header = load_le<net::PacketHeader>(packet);
    fuzz::require(header.flags == 0 && header.segmentation == 0);
    const auto frame = packet.subspan(sizeof(header));
    if (get16(frame, 12) != kIp4Type || get8(frame, 23) != kTcp) return;
    const uint16_t local = get16(frame, 36);
    const uint16_t remote = get16(frame, 34);
    if (local == 80) visitor_ = remote;
    auto& flow = flows_[{local, remote}];
    const auto length = static_cast<uint32_t>(get16(frame, 16) - 20 - get8(frame, 46) / 16 * 4);
    const uint8_t flags = get8(frame, 47);
    flow.acknowledged = get32(frame, 38) + length + ((flags & (kSyn | kFin)) != 0 ? 1 : 0);
    if ((flags & kAck) != 0) flow.sequence = get32(frame, 42);
  }

  // Acts as the host's programs.
  void serve() {
    if (!host().alone) return;
    std::array<char, 4096> bytes{};
    if (Fd peer(::accept4(host().tcp.get(), nullptr, nullptr, SOCK_NONBLOCK)); peer.valid())
      peers_.push_back(std::move(peer));
    sockaddr_in from{};
    socklen_t size = sizeof(from);
    auto* const address = reinterpret_cast<sockaddr*>(&from);
    const ssize_t got = ::recvfrom(host().udp.get(), bytes.data(), bytes.size(), 0, address, &size);
    if (got >= 0)
      (void)::sendto(host().udp.get(), bytes.data(), static_cast<size_t>(got), 0, address, size);
    if (peers_.empty()) return;
    Fd& peer = peers_[input_.ConsumeIntegralInRange<size_t>(0, peers_.size() - 1)];
    if (!peer.valid()) return;
    const linger now{.l_onoff = 1, .l_linger = 0};
    switch (input_.ConsumeIntegralInRange(0, 5)) {
      case 0:
        (void)::setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        peer.close();
        break;
      case 1:
        (void)::shutdown(peer.get(), SHUT_WR);
        break;
      case 2:
        (void)::send(peer.get(), "!", 1, MSG_OOB);
        break;
      case 3:
        (void)::recv(peer.get(), bytes.data(), bytes.size(), 0);
        break;
      default:
        (void)::send(peer.get(), bytes.data(), input_.ConsumeIntegralInRange<size_t>(1, 4096), 0);
    }
  }

  // Connects through the forwarded port.
  void come_in() {
    if (!host().alone || peers_.size() > 20) return;
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const auto address = loopback(kForwarded);
    (void)::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    peers_.push_back(std::move(fd));
  }

  struct Flow {
    uint32_t sequence = 0;
    uint32_t acknowledged = 0;
  };

  FuzzedDataProvider& input_;
  bool attached_ = true;
  std::map<std::pair<uint16_t, uint16_t>, Flow> flows_;
  uint16_t visitor_ = 0;
  std::vector<Fd> peers_;
  std::unique_ptr<net::Backend> backend_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)host();
  FuzzedDataProvider input(data, size);
  Session session(input);
  for (int step = 0; step < 300 && input.remaining_bytes() > 0; ++step) session.step();
  return 0;
}
