// Fake network back end: tests add packets for the card, and get the packets that the
// card sent.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "net/backend.h"

namespace wick::fakes {

struct Packet {
  net::PacketHeader header;
  std::vector<std::byte> frame;
};

class FakeNetwork final : public net::Backend {
 public:
  explicit FakeNetwork(uint16_t pairs = 1, net::Offloads supported = {})
      : supported_(supported), arrived_(pairs), drained_(pairs, true) {}

  // Adds a packet for the card. Called on the loop's thread, or before the loop runs. The
  // card is notified only if it has found no packet before, as with an edge-triggered
  // descriptor.
  void arrive(Packet packet, uint16_t pair = 0) {
    arrived_[pair].push_back(std::move(packet));
    if (!drained_[pair] || loop_ == nullptr) return;
    drained_[pair] = false;
    loop_->post([this, pair] {
      if (loop_ != nullptr) events_.readable(pair);
    });
  }
  // Called on the loop's thread.
  void set_link(bool up) {
    link_up_ = up;
    if (loop_ == nullptr) return;
    loop_->post([this] {
      if (loop_ != nullptr) events_.link_changed();
    });
  }

  const std::string& name() const override { return name_; }
  uint16_t queue_pairs() const override { return static_cast<uint16_t>(arrived_.size()); }
  net::Offloads supported_offloads() const override { return supported_; }
  Result<void> attach(EventLoop& loop, Events events) override {
    loop_ = &loop;
    events_ = std::move(events);
    return {};
  }
  void detach() override {
    loop_ = nullptr;
    events_ = {};
  }
  void set_offloads(net::Offloads offloads) override { offloads_ = offloads; }
  void set_active_pairs(uint16_t count) override { active_pairs_ = count; }
  size_t receive(uint16_t pair, std::span<const iovec> buffers) override {
    ++receive_calls;
    if (arrived_[pair].empty()) {
      drained_[pair] = true;
      return 0;
    }
    const Packet packet = std::move(arrived_[pair].front());
    arrived_[pair].pop_front();
    std::vector<std::byte> bytes(sizeof(packet.header) + packet.frame.size());
    std::memcpy(bytes.data(), &packet.header, sizeof(packet.header));
    std::ranges::copy(packet.frame, bytes.begin() + sizeof(packet.header));
    size_t copied = 0;
    for (const iovec& buffer : buffers) {
      const size_t part = std::min(buffer.iov_len, bytes.size() - copied);
      if (part == 0) continue;
      std::memcpy(buffer.iov_base, bytes.data() + copied, part);
      copied += part;
    }
    return copied;
  }
  void send(uint16_t pair, std::span<const iovec> packet) override {
    std::vector<std::byte> bytes;
    for (const iovec& buffer : packet) {
      const auto* data = static_cast<const std::byte*>(buffer.iov_base);
      bytes.insert(bytes.end(), data, data + buffer.iov_len);
    }
    Packet& sent_packet = sent.emplace_back();
    std::memcpy(&sent_packet.header, bytes.data(),
                std::min(bytes.size(), sizeof(sent_packet.header)));
    if (bytes.size() > sizeof(sent_packet.header))
      sent_packet.frame.assign(bytes.begin() + sizeof(sent_packet.header), bytes.end());
    sent_on.push_back(pair);
  }
  bool link_up() const override { return link_up_; }

  // Accessed on the loop's thread, or when the loop has stopped.
  std::vector<Packet> sent;
  std::vector<uint16_t> sent_on;  // the queue pair of each
  int receive_calls = 0;
  net::Offloads offloads() const { return offloads_; }
  uint16_t active_pairs() const { return active_pairs_; }
  size_t waiting(uint16_t pair = 0) const { return arrived_[pair].size(); }

 private:
  const std::string name_ = "fake0";
  const net::Offloads supported_;
  EventLoop* loop_ = nullptr;
  Events events_;
  std::vector<std::deque<Packet>> arrived_;  // by pair
  std::vector<bool> drained_;                // by pair
  bool link_up_ = true;
  net::Offloads offloads_;
  uint16_t active_pairs_ = 1;
};

}  // namespace wick::fakes
