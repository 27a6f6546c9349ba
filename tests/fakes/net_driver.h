// Test fixture with a driver of a virtio network card. The card is on a loop of its own,
// over a fake network.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "tests/fakes/await_used.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/fake_network.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fakes/wait_for.h"
#include "virtio/mmio.h"
#include "virtio/net.h"

namespace wick::fakes {

class NetDriver : public testing::Test {
 protected:
  using Bytes = std::vector<std::byte>;

  static constexpr net::MacAddress kMac = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
  static constexpr net::Offloads kAllOffloads = net::kAllOffloads;
  static constexpr uint16_t kReceive = 0;
  static constexpr uint16_t kTransmit = 1;

  // Parameters of the rings.
  struct Rings {
    uint16_t size = 256;
    bool event_index = false;
    bool indirect = true;
    std::set<uint16_t> missing = {};  // queues that the driver does not set up
  };

  NetDriver() {
    memory_.emplace(memory_of(64 << 20));
    thread_ = LoopThread::start("net-test").value();
    make();
  }
  ~NetDriver() override {
    unmake();
    thread_->stop();
  }

  void make(uint16_t pairs = 1, net::Offloads supported = {}, std::optional<uint16_t> mtu = {}) {
    unmake();
    network_ = std::make_unique<FakeNetwork>(pairs, supported);
    card_ = virtio::Net::create(*network_, loop(), kMac, mtu, "net0").value();
    transport_ = virtio::MmioTransport::create(*card_, *memory_, line_, "net0").value();
    registers_.emplace(*transport_);
  }
  void unmake() {
    if (registers_) registers_->reset();
    registers_.reset();
    transport_.reset();
    card_.reset();
    network_.reset();
  }

  // Brings the card to DRIVER_OK, without these features.
  void start(uint64_t without = 0) { start(without, Rings()); }
  void start(uint64_t without, const Rings& rings) {
    uint64_t features = regs().device_features() & ~without;
    if (!rings.event_index) features &= ~virtio::feature_bit(VIRTIO_RING_F_EVENT_IDX);
    if (!rings.indirect) features &= ~virtio::feature_bit(VIRTIO_RING_F_INDIRECT_DESC);
    ASSERT_EQ(regs().negotiate(features), MmioDriver::kFeaturesOk);
    (void)regs().take_causes();
    const auto pairs = network_->queue_pairs();
    const bool many = has(features, VIRTIO_NET_F_MQ);
    control_ = many ? static_cast<uint16_t>(2 * pairs) : uint16_t{2};
    queues_.clear();
    posted_.clear();
    for (uint16_t i = 0; i <= control_; ++i) {
      queues_.emplace_back(
          *memory_, FakeDriver::Options{
                        .size = i == control_ ? std::min<uint16_t>(64, rings.size) : rings.size,
                        .event_index = rings.event_index,
                        .indirect = rings.indirect,
                        .base = {0x10000 + i * 0x300000ull},
                        .buffer_area_bytes = 0x280000});
      if (!rings.missing.contains(i)) regs().set_queue(i, queues_.back().layout());
    }
    posted_.resize(queues_.size());
    regs().set_status(MmioDriver::kDriverOk);
    ASSERT_EQ(regs().status() & ~MmioDriver::kNeedsReset, MmioDriver::kDriverOk);
  }

  EventLoop& loop() { return thread_->loop(); }
  const MmioDriver& regs() const { return *registers_; }
  FakeDriver& queue(uint16_t index) { return queues_[index]; }
  static bool has(uint64_t features, unsigned bit) { return (features >> bit & 1) != 0; }
  static constexpr uint64_t bit(unsigned feature) { return 1ull << feature; }

  void kick(uint16_t index) {
    if (queue(index).kick_wanted()) regs().kick(index);
  }
  std::optional<FakeDriver::Used> take_used_now(uint16_t index) { return queue(index).take_used(); }
  FakeDriver::Used take_used(uint16_t index) { return await_used(queue(index)); }
  template <typename Function>
  auto on_loop(Function function) {
    return loop().call(function);
  }
  // Waits for several rounds of the loop, so that all pending work is done.
  void settle() {
    for (int i = 0; i < 10; ++i) loop().call([] {});
  }

  // --- packets ---

  static Bytes pattern(size_t size_bytes, uint32_t seed = 1) {
    Bytes bytes(size_bytes);
    for (size_t i = 0; i < size_bytes; ++i)
      bytes[i] = static_cast<std::byte>(seed * 31 + i * 7 + i / 251);
    return bytes;
  }
  // Makes a packet for the card: an Ethernet header and then a pattern.
  static Packet packet(size_t frame_bytes, uint32_t seed = 1, net::PacketHeader header = {}) {
    Packet made{header, pattern(frame_bytes, seed)};
    if (frame_bytes >= kMac.size()) std::memcpy(made.frame.data(), kMac.data(), kMac.size());
    return made;
  }
  void arrive(Packet packet, uint16_t pair = 0) {
    loop().call([&] { network_->arrive(std::move(packet), pair); });
  }
  int receive_calls() {
    return on_loop([&] { return network_->receive_calls; });
  }
  size_t waiting(uint16_t pair = 0) {
    return on_loop([&] { return network_->waiting(pair); });
  }
  std::vector<Packet> take_sent() {
    return on_loop([&] { return std::exchange(network_->sent, {}); });
  }

  // --- receiving ---

  // Publishes a receive chain with buffers of these sizes.
  FakeDriver::Request post(std::initializer_list<uint32_t> sizes, uint16_t index = kReceive) {
    auto chain = queue(index).chain();
    for (const uint32_t size : sizes) chain.writable(size);
    return post(chain.publish(), index);
  }
  FakeDriver::Request post(FakeDriver::Request request, uint16_t index) {
    posted_[index][request.head] = request;
    kick(index);
    return request;
  }
  void post_each(size_t count, uint32_t size_bytes, uint16_t index = kReceive) {
    for (size_t i = 0; i < count; ++i) post({size_bytes}, index);
  }

  struct Received {
    net::PacketHeader header;
    Bytes frame;
    size_t buffers = 0;  // the number of chains
  };
  // Waits for a packet. All its buffers must be used as soon as the first is.
  Received take_packet(uint16_t index = kReceive) {
    Received got;
    Bytes all;
    const auto add = [&](const FakeDriver::Used& used) {
      ++got.buffers;
      const auto found = posted_[index].find(static_cast<uint16_t>(used.head));
      ASSERT_NE(found, posted_[index].end()) << used.head;
      size_t left = used.written_bytes;
      size_t room = 0;
      for (const auto& buffer : found->second.writable) {
        const auto part = buffer.first(std::min(left, buffer.size()));
        all.insert(all.end(), part.begin(), part.end());
        left -= part.size();
        room += buffer.size();
      }
      EXPECT_EQ(left, 0u) << "more than there was room for";
      last_was_full_ = used.written_bytes == room;
      posted_[index].erase(found);
    };
    add(take_used(index));
    const auto header_is_there = [&] { return all.size() >= sizeof(got.header); };
    while (!header_is_there()) {
      const auto used = take_used_now(index);
      if (!used) break;
      EXPECT_TRUE(last_was_full_);
      add(*used);
    }
    EXPECT_TRUE(header_is_there()) << all.size();
    if (!header_is_there()) return got;
    std::memcpy(&got.header, all.data(), sizeof(got.header));
    while (got.buffers < got.header.buffers) {
      EXPECT_TRUE(last_was_full_);
      const auto used = take_used_now(index);
      EXPECT_TRUE(used) << got.buffers << " of " << got.header.buffers << " buffers";
      if (!used) break;
      add(*used);
    }
    EXPECT_EQ(got.buffers, got.header.buffers);
    got.frame.assign(all.begin() + sizeof(got.header), all.end());
    return got;
  }
  // Expects that the next packet is this one, in this many buffers.
  void expect_packet(const Packet& wanted, size_t buffers = 1, uint16_t index = kReceive) {
    const Received got = take_packet(index);
    EXPECT_EQ(got.buffers, buffers);
    EXPECT_EQ(got.frame.size(), wanted.frame.size());
    EXPECT_TRUE(got.frame == wanted.frame);
    net::PacketHeader header = wanted.header;
    header.buffers = static_cast<uint16_t>(buffers);
    EXPECT_EQ(std::memcmp(&got.header, &header, sizeof(header)), 0);
  }

  // --- commands ---

  // Executes a command and returns its status; -1 if the card did not write one.
  int command(std::span<const std::byte> bytes) {
    const auto request = queue(control_).chain().readable(bytes).writable(1).publish();
    kick(control_);
    const auto used = take_used(control_);
    EXPECT_EQ(used.head, request.head);
    return used.written_bytes == 1 ? std::to_integer<int>(request.writable[0][0]) : -1;
  }
  template <typename... T>
  int command(uint8_t which, uint8_t number, const T&... data) {
    Bytes bytes = {std::byte{which}, std::byte{number}};
    [[maybe_unused]] const auto append = [&](const auto& value) {
      const auto more = as_bytes(&value, sizeof(value));
      bytes.insert(bytes.end(), more.begin(), more.end());
    };
    (append(data), ...);
    return command(bytes);
  }

  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  CountingLine line_;
  std::unique_ptr<FakeNetwork> network_;
  std::unique_ptr<virtio::Net> card_;
  std::unique_ptr<virtio::MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
  std::deque<FakeDriver> queues_;
  std::vector<std::map<uint16_t, FakeDriver::Request>> posted_;  // by queue and head
  uint16_t control_ = 2;

 private:
  bool last_was_full_ = false;
};

}  // namespace wick::fakes
