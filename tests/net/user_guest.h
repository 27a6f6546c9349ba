// A scripted guest on a user network. It implements as much of ARP, IP and TCP as a network
// inside one process needs: no reordering and no retransmission.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "net/user.h"
#include "tests/fakes/frames.h"
#include "tests/fakes/wait_for.h"

namespace wick::net {

constexpr fakes::Mac kGuestMac = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
constexpr fakes::Mac kEveryone = {255, 255, 255, 255, 255, 255};
constexpr fakes::Mac kRouterMac = {0x52, 0x55, 10, 0, 2, 2};
constexpr uint32_t kGuest4 = 0x0a00020f;
constexpr uint32_t kHost4 = 0x0a000202;
constexpr fakes::Ip6Address kHost6 = {0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
constexpr uint32_t kNames4 = 0x0a000203;
constexpr size_t kIpPlace = 14;
constexpr size_t kTransportPlace = 34;

class UserGuest {
 public:
  using Match = std::function<bool(std::span<const std::byte> frame)>;

  explicit UserGuest(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) { attach(); }
  explicit UserGuest(const UserNetwork& config) : UserGuest(open_user(config).value()) {}
  ~UserGuest() {
    on_loop([this] { backend_.reset(); });
  }

  void attach() {
    on_loop([this] {
      const auto attached = backend_->attach(
          thread_->loop(),
          {.readable = [this](uint16_t) { take_frames(); }, .link_changed = [] {}});
      if (!attached) std::abort();
    });
  }
  void detach() {
    on_loop([this] { backend_->detach(); });
  }
  // Frames that the guest does not take stay in the queue.
  void take(bool taking) {
    on_loop([this, taking] {
      taking_ = taking;
      take_frames();
    });
  }

  template <typename Function>
  void on_loop(Function function) {
    thread_->loop().call(function);
  }
  Backend& backend() { return *backend_; }
  EventLoop& loop() { return thread_->loop(); }

  void send(const fakes::Bytes& frame, const PacketHeader& header = {}) {
    on_loop([&] { send_here(frame, header); });
  }
  // Sends the packet in two buffers, like a driver with a separate header.
  void send_here(const fakes::Bytes& frame, const PacketHeader& header = {}) {
    fakes::Bytes all(sizeof(header));
    store_le(std::span(all), header);
    fakes::append(all, frame);
    const size_t first = std::min<size_t>(sizeof(header) + 3, all.size());
    const std::array<iovec, 2> parts = {iovec{all.data(), first},
                                        iovec{all.data() + first, all.size() - first}};
    backend_->send(0, parts);
  }

  // Removes and returns the first frame that matches; nullopt after a timeout that only a
  // hang reaches.
  std::optional<fakes::Bytes> await(const Match& match) {
    std::optional<fakes::Bytes> found;
    fakes::wait_for([&] { return (found = try_take(match)).has_value(); });
    return found;
  }
  std::optional<fakes::Bytes> try_take(const Match& match) {
    const std::lock_guard lock(mutex_);
    const auto place = std::ranges::find_if(frames_, match);
    if (place == frames_.end()) return std::nullopt;
    std::optional<fakes::Bytes> found = std::move(*place);
    frames_.erase(place);
    return found;
  }
  void for_each_waiting(const std::function<void(std::span<const std::byte>)>& look) {
    const std::lock_guard lock(mutex_);
    for (const fakes::Bytes& frame : frames_) look(frame);
  }
  size_t waiting() {
    const std::lock_guard lock(mutex_);
    return frames_.size();
  }

  // --- frames ---

  void send4(uint8_t protocol, uint32_t to, const fakes::Bytes& transport) {
    send(frame4(protocol, to, transport));
  }
  static fakes::Bytes frame4(uint8_t protocol, uint32_t to, const fakes::Bytes& transport,
                             uint32_t from = kGuest4, const fakes::Mac& station = kRouterMac) {
    const uint16_t pseudo = protocol == fakes::kIcmp
                                ? uint16_t{0}
                                : fakes::pseudo_sum4(from, to, protocol, transport.size());
    return fakes::ethernet(station, kGuestMac, fakes::kIp4Type,
                           fakes::ip4({.from = from, .to = to, .protocol = protocol},
                                      fakes::with_checksum(transport, protocol, pseudo)));
  }

  static fakes::Bytes arp(uint16_t operation, uint32_t from, uint32_t to) {
    fakes::Bytes packet;
    fakes::append16(packet, 1);
    fakes::append16(packet, fakes::kIp4Type);
    fakes::append16(packet, 0x0604);
    fakes::append16(packet, operation);
    for (const uint8_t byte : kGuestMac) fakes::append8(packet, byte);
    fakes::append32(packet, from);
    for (int i = 0; i < 6; ++i) fakes::append8(packet, 0);
    fakes::append32(packet, to);
    return fakes::ethernet(kEveryone, kGuestMac, fakes::kArpType, packet);
  }
  // Tells the router the guest's station.
  void announce() { send(arp(1, kGuest4, kGuest4)); }

  // RFC 2131: one request of the given kind.
  static fakes::Bytes dhcp(uint8_t kind, const fakes::Mac& station = kGuestMac,
                           uint32_t wanted = 0) {
    fakes::Bytes packet;
    fakes::append32(packet, 0x01010600);
    fakes::append32(packet, 0xcafe0001);
    packet.resize(28);
    for (const uint8_t byte : station) fakes::append8(packet, byte);
    packet.resize(236);
    fakes::append32(packet, 0x63825363);
    for (const uint8_t byte : {uint8_t{53}, uint8_t{1}, kind}) fakes::append8(packet, byte);
    if (wanted != 0) {
      fakes::append16(packet, 0x3204);
      fakes::append32(packet, wanted);
    }
    fakes::append8(packet, 255);
    packet.resize(600);  // libslirp looks at whole messages only
    return frame4(fakes::kUdp, 0xffffffff, fakes::udp(68, 67, packet), 0, kEveryone);
  }

  static fakes::Bytes echo_request(uint16_t id, const fakes::Bytes& payload) {
    fakes::Bytes message;
    fakes::append32(message, 0x08000000);
    fakes::append16(message, id);
    fakes::append16(message, 1);
    fakes::append(message, payload);
    return message;
  }

 private:
  void take_frames() {
    while (taking_) {
      const std::array<iovec, 2> buffers = {iovec{room_.data(), 5},
                                            iovec{room_.data() + 5, room_.size() - 5}};
      const size_t size = backend_->receive(0, buffers);
      if (size == 0) return;
      const auto frame = std::span(room_).first(size).subspan(sizeof(PacketHeader));
      fakes::Bytes packet(frame.begin(), frame.end());
      if (fakes::get16(packet, 12) == fakes::kArpType && fakes::get16(packet, 20) == 1 &&
          fakes::get32(packet, 38) == kGuest4)
        send_here(arp(2, kGuest4, fakes::get32(packet, 28)));
      const std::lock_guard lock(mutex_);
      frames_.push_back(std::move(packet));
    }
  }

  std::unique_ptr<LoopThread> thread_ = LoopThread::start("net-test").value();
  std::unique_ptr<Backend> backend_;
  bool taking_ = true;
  fakes::Bytes room_ = fakes::Bytes(kMaxPacketBytes);

  std::mutex mutex_;
  // Guarded by mutex_.
  std::vector<fakes::Bytes> frames_;
};

inline bool is4(std::span<const std::byte> frame, uint8_t protocol) {
  return frame.size() >= 42 && fakes::get16(frame, 12) == fakes::kIp4Type &&
         fakes::get8(frame, 23) == protocol;
}

// The guest's end of one TCP connection.
class GuestTcp {
 public:
  GuestTcp(UserGuest& guest, uint16_t port, uint32_t peer, uint16_t peer_port)
      : guest_(guest), port_(port), peer_(peer), peer_port_(peer_port) {}

  // False: refused, or no answer.
  bool connect() {
    say(fakes::kSyn);
    ++sequence_;
    const auto answer = next();
    if (!answer || (flags(*answer) & fakes::kRst) != 0) return false;
    acknowledged_ = fakes::get32(*answer, kTransportPlace + 4) + 1;
    say(fakes::kAck);
    return true;
  }
  // A connection from the host, which a forward brings.
  static std::optional<GuestTcp> accept(UserGuest& guest, uint16_t port) {
    const auto syn = guest.await([&](auto frame) {
      return is4(frame, fakes::kTcp) && fakes::get16(frame, kTransportPlace + 2) == port &&
             flags(frame) == fakes::kSyn;
    });
    if (!syn) return std::nullopt;
    GuestTcp tcp(guest, port, fakes::get32(*syn, kIpPlace + 12),
                 fakes::get16(*syn, kTransportPlace));
    tcp.acknowledged_ = fakes::get32(*syn, kTransportPlace + 4) + 1;
    tcp.say(fakes::kSyn | fakes::kAck);
    ++tcp.sequence_;
    return tcp;
  }

  void say(uint8_t what, const fakes::Bytes& data = {}) {
    guest_.send4(fakes::kTcp, peer_, segment(what, data));
    sequence_ += static_cast<uint32_t>(data.size());
  }
  fakes::Bytes segment(uint8_t what, const fakes::Bytes& data) const {
    return fakes::tcp({.from = port_,
                       .to = peer_port_,
                       .sequence = sequence_,
                       .acknowledged = acknowledged_,
                       .flags = what},
                      data);
  }
  // Sends segments and waits until they are acknowledged.
  bool write(const fakes::Bytes& data) {
    for (size_t at = 0; at < data.size(); at += 1400) {
      const size_t part = std::min<size_t>(1400, data.size() - at);
      const auto from = data.begin() + static_cast<std::ptrdiff_t>(at);
      say(fakes::kAck | fakes::kPsh, {from, from + static_cast<std::ptrdiff_t>(part)});
      if (!await_acknowledgement()) return false;
    }
    return true;
  }
  // Waits for the acknowledgement of all data sent, which may come in parts.
  bool await_acknowledgement() {
    return guest_
        .await([this](auto frame) {
          return mine(frame) && (flags(frame) & fakes::kAck) != 0 &&
                 fakes::get32(frame, kTransportPlace + 8) == sequence_;
        })
        .has_value();
  }
  // Receives so many bytes and acknowledges each segment; fewer at the end of the stream.
  fakes::Bytes read(size_t size) {
    fakes::Bytes data;
    while (data.size() < size) {
      const auto frame = next();
      if (!frame) break;
      const auto sequence = fakes::get32(*frame, kTransportPlace + 4);
      const auto payload = payload_of(*frame);
      if (sequence != acknowledged_) continue;  // a retransmission, or out of order
      fakes::append(data, payload);
      acknowledged_ += static_cast<uint32_t>(payload.size());
      const bool end = (flags(*frame) & fakes::kFin) != 0;
      if (end) ++acknowledged_;
      if (end || !payload.empty()) say(fakes::kAck);
      if (end || (flags(*frame) & fakes::kRst) != 0) break;
    }
    return data;
  }
  std::optional<fakes::Bytes> next() {
    return guest_.await([this](auto frame) { return mine(frame); });
  }
  // Continues after the last byte that the peer has acknowledged.
  void rewind() {
    guest_.for_each_waiting([this](auto frame) {
      if (mine(frame)) sequence_ = fakes::get32(frame, kTransportPlace + 8);
    });
  }
  void set_sequence(uint32_t sequence) { sequence_ = sequence; }
  uint32_t sequence() const { return sequence_; }

  static uint8_t flags(std::span<const std::byte> frame) {
    return fakes::get8(frame, kTransportPlace + 13);
  }
  static std::span<const std::byte> payload_of(std::span<const std::byte> frame) {
    const size_t total = fakes::get16(frame, kIpPlace + 2);
    const size_t headers = 20 + size_t{fakes::get8(frame, kTransportPlace + 12)} / 16 * 4;
    return frame.subspan(kIpPlace + headers, total - headers);
  }

 private:
  bool mine(std::span<const std::byte> frame) const {
    return is4(frame, fakes::kTcp) && fakes::get32(frame, kIpPlace + 12) == peer_ &&
           fakes::get16(frame, kTransportPlace) == peer_port_ &&
           fakes::get16(frame, kTransportPlace + 2) == port_;
  }

  UserGuest& guest_;
  uint16_t port_;
  uint32_t peer_;
  uint16_t peer_port_;
  uint32_t sequence_ = 0x1000;
  uint32_t acknowledged_ = 0;
};

}  // namespace wick::net
