#include "virtio/net_receiver.h"

#include <algorithm>
#include <cstring>

#include "base/buffers.h"
#include "net/vlan.h"

namespace wick::virtio {

namespace {

constexpr int kTurnPackets = 64;
constexpr size_t kTagBytes = 4;
constexpr size_t kEthernetBytes = 14 + kTagBytes;  // an Ethernet header with one VLAN tag
// The receiver pops another chain only while it has fewer buffers than this. readv(2) takes at most
// 1024 buffers: two are the receiver's own, and the last chain may have 256.
constexpr size_t kMaxBuffers = 1024 - 2 - 256;
constexpr size_t kMinExpectedBytes = 2048;

}  // namespace

NetReceiver::NetReceiver(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier,
                         net::Backend& backend, uint16_t pair, const NetSettings& settings,
                         const std::string& name, RateLimit& warnings)
    : backend_(backend),
      pair_(pair),
      settings_(settings),
      merges_(settings.has(VIRTIO_NET_F_MRG_RXBUF)),
      name_(name),
      warnings_(warnings),
      ring_(loop, std::move(queue), notifier, name, warnings, [this] { receive(); }),
      overflow_(std::make_unique_for_overwrite<std::byte[]>(net::kMaxPacketBytes)) {}

void NetReceiver::receive() {
  if (!ring_.active()) return;
  if (pair_ >= settings_.pairs) {  // 5.1.6.5.5: the driver has not enabled this queue pair
    packet_bytes_ = 0;
    return;
  }
  ring_.queue().disable_notifications();
  int budget = kTurnPackets;
  empty_chains_ = 0;
  while (budget > 0 && (packet_bytes_ > 0 || (gather(expected_bytes_) && read_packet())) &&
         deliver())
    --budget;
  ring_.interrupt();
  if (budget == 0 || turn_is_over()) ring_.kick();
}

// Pops chains until their buffers have room for `wanted_bytes`, or the ring is empty; without
// mergeable buffers, pops only one chain. Returns true if the receiver has at least one chain. If
// the ring is empty and the receiver has no chain, notifications are enabled, so that the driver's
// next chain causes a kick.
bool NetReceiver::gather(size_t wanted_bytes) {
  while (!turn_is_over() && room_.size() < kMaxBuffers &&
         (chains_.empty() || (merges_ && room_bytes_ < wanted_bytes))) {
    auto chain = ring_.pop();
    if (!chain) {
      if (!chains_.empty() || !ring_.wait_for_kick()) break;
      ring_.queue().disable_notifications();
      continue;
    }
    const auto buffers = chain->writable();
    const size_t bytes = total_bytes(buffers);
    if (bytes == 0) {
      warnings_.warn("{}: the driver added a receive buffer without room", name_);
      ++empty_chains_;
      continue;  // the destructor returns the chain to the driver
    }
    room_.insert(room_.end(), buffers.begin(), buffers.end());
    room_bytes_ += bytes;
    descriptors_ += chain->descriptor_count();
    chains_.push_back({*std::move(chain), bytes});
  }
  return ring_.active() && !chains_.empty();
}

// Reads a packet into head_, room_ and overflow_. Returns false if the back end has no packet.
bool NetReceiver::read_packet() {
  scattered_.assign(1, {&head_, sizeof(head_)});
  size_t skip = sizeof(head_);  // deliver() copies the first bytes from head_ into room_
  for (const iovec& buffer : room_) {
    const size_t skipped = std::min(skip, buffer.iov_len);
    skip -= skipped;
    if (buffer.iov_len > skipped)
      scattered_.push_back(
          {static_cast<std::byte*>(buffer.iov_base) + skipped, buffer.iov_len - skipped});
  }
  scattered_.push_back({overflow_.get(), net::kMaxPacketBytes});
  packet_bytes_ = backend_.receive(pair_, scattered_);
  placed_bytes_ = std::max(room_bytes_, sizeof(head_));
  return packet_bytes_ > 0;
}

// Returns true if the driver may get this packet: it needs only offloads that the driver has
// enabled, it is not longer than the MTU allows, and it passes the receive filter. (The back end
// may have queued the packet before the driver changed the offloads.)
bool NetReceiver::accepts_packet() const {
  if (packet_bytes_ < net::kMinPacketBytes) return false;
  const net::PacketHeader& header = head_.header;
  const size_t frame_bytes = packet_bytes_ - sizeof(header);
  const auto start = std::span(head_.start).first(std::min(frame_bytes, head_.start.size()));
  if (!settings_.guest_offloads.cover(header)) return false;
  if (header.segmentation == net::PacketHeader::kNone && settings_.mtu > 0 &&
      frame_bytes > settings_.mtu + kEthernetBytes + (net::has_two_tags(start) ? kTagBytes : 0))
    return false;
  return settings_.accepts(start);
}

// Gives the packet that was read to the driver, or drops it. Returns false if the packet must wait
// for buffers.
bool NetReceiver::deliver() {
  if (!accepts_packet()) {
    packet_bytes_ = 0;
    return true;
  }
  if (packet_bytes_ > room_bytes_ && !make_room()) return packet_bytes_ == 0;
  if (packet_bytes_ > placed_bytes_)
    copy_in(placed_bytes_, {overflow_.get(), packet_bytes_ - placed_bytes_});

  size_t count = 0;
  for (size_t bytes = 0; bytes < packet_bytes_; ++count) bytes += chains_[count].bytes;
  head_.header.buffers = static_cast<uint16_t>(count);  // 5.1.6.4.1: 1 without mergeable buffers
  head_.header.flags &= net::PacketHeader::kNeedsChecksum | net::PacketHeader::kChecksumValid;
  if (!settings_.guest_offloads.checksum) head_.header.flags = 0;
  copy_in(0, std::as_bytes(std::span(&head_, 1)).first(std::min(sizeof(head_), packet_bytes_)));

  // When the driver finds the first buffer of a packet, it expects the packet's other buffers to be
  // there, too.
  ring_.queue().hold_completions();
  size_t buffers = 0;
  for (size_t left = packet_bytes_; left > 0; chains_.pop_front()) {
    Held& held = chains_.front();
    const size_t written = std::min(left, held.bytes);
    left -= written;
    room_bytes_ -= held.bytes;
    buffers += held.chain.writable().size();
    descriptors_ -= held.chain.descriptor_count();
    std::move(held.chain).complete(static_cast<uint32_t>(written));
  }
  ring_.queue().publish_completions();
  room_.erase(room_.begin(), room_.begin() + static_cast<std::ptrdiff_t>(buffers));
  expected_bytes_ = std::max({packet_bytes_, expected_bytes_ / 2, kMinExpectedBytes});
  packet_bytes_ = 0;
  return true;
}

// Pops more chains for a packet that does not fit into the present ones. Returns false if the
// packet must wait for further chains, or if it can never fit; then it is dropped.
bool NetReceiver::make_room() {
  while (merges_ && gather(packet_bytes_)) {
    if (room_bytes_ >= packet_bytes_) return true;
    // The packet cannot fit: all descriptors of the ring are in use, or readv(2) takes no
    // more buffers.
    if (descriptors_ >= ring_.queue().size() || room_.size() >= kMaxBuffers) break;
    if (turn_is_over() || !ring_.wait_for_kick()) return false;
    ring_.queue().disable_notifications();
  }
  warnings_.warn("{}: dropped a packet of {} bytes, too large for the driver's buffers", name_,
                 packet_bytes_);
  packet_bytes_ = 0;
  return false;
}

void NetReceiver::copy_in(size_t offset, std::span<const std::byte> bytes) {
  for (const iovec& buffer : room_) {
    if (offset >= buffer.iov_len) {
      offset -= buffer.iov_len;
      continue;
    }
    const size_t part = std::min(bytes.size(), buffer.iov_len - offset);
    std::memcpy(static_cast<std::byte*>(buffer.iov_base) + offset, bytes.data(), part);
    bytes = bytes.subspan(part);
    if (bytes.empty()) return;
    offset = 0;
  }
}

}  // namespace wick::virtio
