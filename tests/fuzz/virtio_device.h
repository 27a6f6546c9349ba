// Shared by the fuzzers of the small virtio devices: a device behind mmio registers, a loop that
// runs on request, and a driver for each queue that follows the rules of the ring until
// break_ring().
#pragma once

#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "base/guest_memory.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fuzz/harness.h"
#include "virtio/mmio.h"

namespace wick::fuzz {

constexpr uint64_t kRamBytes = 9 << 20;
// The queues lie below, each with more room for buffers than it can use at a time, so that a
// device never writes to the table of another chain.
constexpr uint64_t kRingsEnd = 7 << 20;

inline GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(kRamBytes);
  return ram;
}

class Device {
 public:
  Device(FuzzedDataProvider& input, virtio::VirtioDevice& device) : input_(input) {
    spdlog::set_level(spdlog::level::off);
    transport_ = virtio::MmioTransport::create(device, memory(), line_, "fuzz").value();
    registers_ = std::make_unique<fakes::MmioDriver>(*transport_);
    const bool event_index = input.ConsumeBool();
    uint64_t features = registers_->device_features();
    if (!event_index) features &= ~virtio::feature_bit(VIRTIO_RING_F_EVENT_IDX);
    for (uint64_t bit = 1; bit < 1ull << 24; bit <<= 1)
      if ((features & bit) != 0 && input.ConsumeProbability<float>() < 0.1f) features &= ~bit;
    require(registers_->negotiate(features) == fakes::MmioDriver::kFeaturesOk);
    features_ = features;
    pending_.resize(device.queue_max_sizes().size());
    for (uint16_t i = 0; i < pending_.size(); ++i) {
      drivers_.emplace_back(memory(), fakes::FakeDriver::Options{.size = 16,
                                                                 .event_index = event_index,
                                                                 .base = {0x1000 + i * 0x100000ull},
                                                                 .buffer_area_bytes = 0xe0000});
      registers_->set_queue(i, drivers_.back().layout());
    }
    registers_->set_status(fakes::MmioDriver::kDriverOk);
    require(registers_->status() == fakes::MmioDriver::kDriverOk);
  }

  uint64_t features() const { return features_; }

  // Publishes a chain with `message` in readable buffers, cut at random, and some writable ones.
  void publish(uint16_t queue, std::span<const std::byte> message) {
    fakes::FakeDriver& driver = drivers_[queue];
    if (broken_ || !driver.has_descriptors(8)) return;
    auto chain = driver.chain();
    for (int i = 0; i < 3 && !message.empty(); ++i) {
      const size_t cut = input_.ConsumeBool()
                             ? message.size()
                             : input_.ConsumeIntegralInRange<size_t>(0, message.size());
      chain.readable(message.first(cut));
      message = message.subspan(cut);
    }
    constexpr uint32_t kSizes[] = {0, 1, 7, 8, 64, 4096, 0x4000};
    const int writable = input_.ConsumeIntegralInRange(0, 3);
    for (int i = 0; i < writable; ++i) chain.writable(input_.PickValueInArray(kSizes));
    if (writable == 0) chain.readable("");
    if (input_.ConsumeBool()) chain.indirect();
    add(queue, chain);
  }
  // Publishes one buffer anywhere in RAM.
  void publish_at(uint16_t queue, GuestAddress at, uint32_t size_bytes) {
    if (broken_ || !drivers_[queue].has_descriptors(1)) return;
    auto chain = drivers_[queue].chain();
    add(queue, chain.writable_at(at, size_bytes));
  }

  void run() {
    loop().stop();
    loop().run();
    take_used();
  }

  // Breaks the ring. From now on only the absence of crashes is checked.
  void break_ring(uint16_t queue) {
    broken_ = true;
    const auto bytes = input_.ConsumeBytes<std::byte>(32);
    (void)memory().write_bytes(
        drivers_[queue].options().base + input_.ConsumeIntegralInRange<uint64_t>(0, 600), bytes);
    registers_->kick(queue);
  }
  void rings_are_gone() { broken_ = true; }
  void write_config() {
    registers_->write(fakes::MmioDriver::kConfig + 4 * input_.ConsumeIntegralInRange(0, 4),
                      input_.ConsumeIntegral<uint32_t>());
  }

  // Checks that all chains of `queue` come back in a bounded number of turns.
  void drain(uint16_t queue) {
    for (int turns = 0; turns < 1000 && !broken_ && !pending_[queue].empty(); ++turns) run();
    require(broken_ || pending_[queue].empty());
  }
  void reset() {
    registers_->reset();
    require(registers_->status() == 0);
    run();
  }

 private:
  void add(uint16_t queue, fakes::FakeDriver::ChainBuilder& chain) {
    const auto request = chain.publish();
    uint64_t room = 0;
    for (const auto& buffer : request.writable) room += buffer.size();
    require(pending_[queue].emplace(request.head, room).second);
    if (drivers_[queue].kick_wanted()) registers_->kick(queue);
  }

  void take_used() {
    for (uint16_t queue = 0; queue < drivers_.size() && !broken_; ++queue) {
      while (const auto used = drivers_[queue].take_used()) {
        const auto found = pending_[queue].find(used->head);
        require(found != pending_[queue].end() && used->written_bytes <= found->second);
        pending_[queue].erase(found);
      }
    }
  }

  FuzzedDataProvider& input_;
  uint64_t features_ = 0;
  fakes::CountingLine line_;
  std::unique_ptr<virtio::MmioTransport> transport_;
  std::unique_ptr<fakes::MmioDriver> registers_;
  std::deque<fakes::FakeDriver> drivers_;
  std::vector<std::map<uint32_t, uint64_t>> pending_;  // by queue and head: room in bytes
  bool broken_ = false;
};

}  // namespace wick::fuzz
