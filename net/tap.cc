#include "net/tap.h"

#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "net/ipv6_sysctls.h"

namespace wick::net {

namespace {

constexpr unsigned kUdpOffloads = 0x20 | 0x40;  // TUN_F_USO4, TUN_F_USO6 (Linux 6.2)

unsigned offload_flags(Offloads offloads) {
  if (!offloads.checksum) return 0;
  return TUN_F_CSUM | (offloads.tcp4 ? TUN_F_TSO4 : 0) | (offloads.tcp6 ? TUN_F_TSO6 : 0) |
         (offloads.ecn ? TUN_F_TSO_ECN : 0) | (offloads.udp ? kUdpOffloads : 0);
}

ifreq named(const std::string& name) {
  ifreq request{};
  name.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
  return request;
}

Result<Fd> open_socket() {
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return fail_errno(errno, "network: cannot open a socket");
  return socket;
}

class Tap final : public Backend {
 public:
  Tap(std::string name, std::vector<Fd> queues) : name_(std::move(name)) {
    for (Fd& queue : queues) queues_.push_back({std::move(queue), {}, false});
    // The offloads are tried in two steps, because Linux supports USO only from 6.2 on.
    constexpr Offloads kOlder{.checksum = true, .tcp4 = true, .tcp6 = true, .ecn = true};
    for (const Offloads& some : {kOlder, kAllOffloads})
      if (request_offloads(some)) supported_ = some;
    request_offloads({});
    for (size_t pair = 1; pair < queues_.size(); ++pair) request_queue(pair, false);
  }

  const std::string& name() const override { return name_; }
  uint16_t queue_pairs() const override { return static_cast<uint16_t>(queues_.size()); }
  Offloads supported_offloads() const override { return supported_; }
  int vhost_descriptor(uint16_t pair) const override { return queues_[pair].fd.get(); }

  Result<void> attach(EventLoop& loop, Events events) override {
    loop_ = &loop;
    events_ = std::move(events);
    TRY(watch_links());
    return watch_queue(0);
  }

  void detach() override {
    set_active_pairs(1);
    queues_.front().watch.reset();
    link_watch_.reset();
    loop_ = nullptr;
  }

  void set_offloads(Offloads offloads) override {
    if (offloads == offloads_) return;
    offloads_ = offloads;
    request_offloads(offloads);
  }

  void set_active_pairs(uint16_t count) override {
    for (size_t pair = 1; pair < queues_.size(); ++pair) {
      const bool wanted = pair < count;
      if (wanted == queues_[pair].active) continue;
      queues_[pair].active = wanted;
      queues_[pair].watch.reset();
      request_queue(pair, wanted);
      if (wanted) static_cast<void>(watch_queue(pair));
    }
  }

  size_t receive(uint16_t pair, std::span<const iovec> buffers) override {
    const ssize_t got =
        ::readv(queues_[pair].fd.get(), buffers.data(), static_cast<int>(buffers.size()));
    return got > 0 ? static_cast<size_t>(got) : 0;
  }

  // Ignores errors (interface down, deleted or full, bad packet from the guest): a physical NIC
  // would not notice them either.
  void send(uint16_t pair, std::span<const iovec> packet) override {
    [[maybe_unused]] const auto sent =
        ::writev(queues_[pair].fd.get(), packet.data(), static_cast<int>(packet.size()));
  }

  bool link_up() const override { return link_up_; }

  void read_link();

 private:
  struct Queue {
    Fd fd;
    EventLoop::Watch watch;
    bool active = false;  // true: IFF_ATTACH_QUEUE; not used for the first queue
  };

  bool request_offloads(Offloads offloads) {
    return ::ioctl(queues_.front().fd.get(), TUNSETOFFLOAD, offload_flags(offloads)) == 0;
  }
  void request_queue(size_t pair, bool active) {
    ifreq request{};
    request.ifr_flags = active ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
    ::ioctl(queues_[pair].fd.get(), TUNSETQUEUE, &request);
  }
  // Watches a queue. The watch is edge-triggered, so that packets that nobody reads do not cause
  // endless events.
  Result<void> watch_queue(size_t pair) {
    if (!events_.readable) return {};
    queues_[pair].watch =
        TRY(loop_->watch(queues_[pair].fd.get(), EPOLLIN | EPOLLET, [this, pair](uint32_t) {
          events_.readable(static_cast<uint16_t>(pair));
        }));
    return {};
  }
  Result<void> watch_links();

  // Constant after construction.
  const std::string name_;
  Offloads supported_;

  // Used only on the loop's thread.
  std::vector<Queue> queues_;
  Offloads offloads_;
  EventLoop* loop_ = nullptr;
  Events events_;
  Fd links_;  // netlink socket for the link changes of all interfaces
  EventLoop::Watch link_watch_;
  bool link_up_ = true;
};

// Updates link_up_. Gets the interface's name from the descriptor, because it may have been
// renamed.
void Tap::read_link() {
  ifreq request{};
  link_up_ = ::ioctl(queues_.front().fd.get(), TUNGETIFF, &request) == 0;
  auto socket = open_socket();
  if (link_up_ && socket && ::ioctl(socket->get(), SIOCGIFFLAGS, &request) == 0)
    link_up_ = (request.ifr_flags & IFF_UP) != 0;
}

Result<void> Tap::watch_links() {
  if (!links_.valid()) {
    links_ = Fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = RTMGRP_LINK;
    if (!links_.valid() ||
        ::bind(links_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      return fail_errno(errno, "{}: cannot watch the state of the link", name_);
  }
  link_watch_ = TRY(loop_->watch(links_.get(), EPOLLIN, [this](uint32_t) {
    // A message only triggers read_link(), so it does not matter if some are truncated or lost.
    std::array<char, 64> start{};
    while (::recv(links_.get(), start.data(), start.size(), 0) >= 0 || errno == ENOBUFS) {
    }
    const bool before = link_up_;
    read_link();
    if (link_up_ != before) events_.link_changed();
  }));
  read_link();
  return {};
}

// Opens a queue of the interface in `request`. TUNSETIFF writes the name of a new interface to
// `request`.
Result<Fd> open_queue(ifreq& request) {
  static constexpr const char* kTun = "/dev/net/tun";
  Fd fd(::open(kTun, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) {
    const int code = errno;
    return with_hint(fail_errno(code, "{}: cannot open", kTun),
                     code == EACCES ? "run as root, or let everyone open it, which is safe: "
                                      "chmod 666 /dev/net/tun"
                                    : "load the module: modprobe tun; wick doctor says more");
  }
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) return fail_errno(errno, "{}", request.ifr_name);
  return fd;
}

std::unexpected<Error> explain(Error error, const std::string& interface, bool exists) {
  if (!error.hint.empty()) return std::unexpected(std::move(error));
  if (error.code == EPERM && !exists && !interface.empty())
    return with_hint(fail("there is no interface {}, and creating one needs root", interface),
                     "give an existing interface, or use -n user");
  error.context = fmt::format("{}: cannot be used as a TAP", interface.empty() ? "tap" : interface);
  const char* hint = "";
  if (error.code == EPERM)
    hint = exists ? "another user owns it: use one of your own, or run as root"
                  : "creating one needs root: use -n user, or have the administrator run "
                    "wick net up --user NAME";
  if (error.code == EBUSY) hint = "another machine uses it: give another ifname";
  if (error.code == EINVAL)
    hint = exists ? "it is not a TAP device, or its queues or headers differ from what wick needs: "
                    "create it with ip tuntap add mode tap vnet_hdr (and multi_queue for queues=N)"
                  : "this is not a valid name for an interface";
  return with_hint(std::unexpected(std::move(error)), hint);
}

// Returns true if the interface with this index is already a port of `bridge`.
bool is_port(const Fd& socket, const std::string& bridge, int index) {
  std::array<int, 1024> ports{};  // BR_MAX_PORTS
  std::array<unsigned long, 3> arguments = {
      BRCTL_GET_PORT_LIST, reinterpret_cast<unsigned long>(ports.data()), ports.size()};
  ifreq request = named(bridge);
  request.ifr_data = reinterpret_cast<char*>(arguments.data());
  return ::ioctl(socket.get(), SIOCDEVPRIVATE, &request) >= 0 &&
         std::ranges::find(ports, index) != ports.end();
}

// Turns off the sysctls by which the guest could configure the host's IPv6. For a TAP on a bridge,
// the sysctls of the bridge would matter, but wick run does not create the bridge.
Result<void> harden_ipv6(const std::string& name) {
  for (const std::string& sysctl : ipv6_sysctls(name)) {
    if (is_off(sysctl)) continue;
    const Fd fd(::open(sysctl.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd.valid() || ::write(fd.get(), "0", 1) < 0)
      return with_hint(fail_errno(errno,
                                  "{}: cannot be set to 0, so the guest could redirect the "
                                  "host's IPv6",
                                  sysctl),
                       "if that is acceptable, create the TAP yourself: ip tuntap add dev NAME "
                       "mode tap vnet_hdr");
  }
  return {};
}

// Applies `config` to the interface and sets it up. Changes only settings that differ, because each
// change needs CAP_NET_ADMIN.
Result<void> set_up(const std::string& name, const TapConfig& config) {
  const Fd socket = TRY(open_socket());
  ifreq request = named(name);
  if (config.mtu &&
      (::ioctl(socket.get(), SIOCGIFMTU, &request) != 0 || request.ifr_mtu != *config.mtu)) {
    request.ifr_mtu = *config.mtu;
    if (::ioctl(socket.get(), SIOCSIFMTU, &request) != 0)
      return with_hint(fail_errno(errno, "{}: cannot set its MTU to {}", name, *config.mtu),
                       fmt::format("leave mtu out, or set it as root: ip link set dev {} mtu {}",
                                   name, *config.mtu));
  }
  const int index = static_cast<int>(::if_nametoindex(name.c_str()));
  if (!config.bridge.empty() && !is_port(socket, config.bridge, index)) {
    request = named(config.bridge);
    request.ifr_ifindex = index;
    if (::ioctl(socket.get(), SIOCBRADDIF, &request) != 0) {
      const int code = errno;
      const char* hint = "";
      if (code == EOPNOTSUPP || code == EINVAL) hint = "is that a bridge? see ip -d link";
      if (code == EPERM) hint = "run as root, or use a TAP that is on the bridge already";
      if (code == EBUSY) hint = "it is on another bridge; leave bridge out";
      return with_hint(fail_errno(code, "{}: cannot be added to bridge {}", name, config.bridge),
                       hint);
    }
  }
  request = named(name);
  if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0)
    return {};
  request.ifr_flags |= IFF_UP;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0)
    return with_hint(fail_errno(errno, "{}: the interface is down and cannot be set up", name),
                     fmt::format("as root: ip link set dev {} up", name));
  return {};
}

}  // namespace

Result<std::unique_ptr<Backend>> open_tap(const TapConfig& config) {
  if (config.interface.size() >= IFNAMSIZ)
    return with_hint(fail("{}: the name is too long for an interface", config.interface),
                     fmt::format("use at most {} characters", IFNAMSIZ - 1));
  if (!config.bridge.empty() && ::if_nametoindex(config.bridge.c_str()) == 0)
    return with_hint(fail("{}: there is no such bridge", config.bridge),
                     fmt::format("wick net up {} creates one", config.bridge));
  const bool exists = !config.interface.empty() && ::if_nametoindex(config.interface.c_str()) != 0;
  ifreq request = named(config.interface.empty() ? "tap%d" : config.interface);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (config.queues > 1) request.ifr_flags |= IFF_MULTI_QUEUE;

  std::vector<Fd> queues;
  auto first = open_queue(request);
  // An interface with multi_queue must be opened with IFF_MULTI_QUEUE even for one queue.
  if (!first && first.error().code == EINVAL && exists && config.queues == 1) {
    request.ifr_flags |= IFF_MULTI_QUEUE;
    first = open_queue(request);
  }
  if (!first) return explain(std::move(first).error(), config.interface, exists);
  const std::string name = request.ifr_name;
  queues.push_back(*std::move(first));
  while (queues.size() < config.queues) {
    auto another = open_queue(request);
    if (!another) return explain(std::move(another).error(), name, true);
    queues.push_back(*std::move(another));
  }
  int header_bytes = sizeof(PacketHeader);
  for (const Fd& queue : queues)
    if (::ioctl(queue.get(), TUNSETVNETHDRSZ, &header_bytes) != 0)
      return fail_errno(errno, "{}: cannot set the size of the packet header", name);
  if (!exists && config.bridge.empty()) TRY(harden_ipv6(name));
  TRY(set_up(name, config));
  return std::make_unique<Tap>(name, std::move(queues));
}

}  // namespace wick::net
