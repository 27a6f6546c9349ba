// A virtio device that only records the calls of its transport.
#pragma once

#include <array>
#include <vector>

#include "virtio/device.h"

namespace wick::fakes {

class RememberingDevice final : public virtio::VirtioDevice {
 public:
  static constexpr uint32_t kId = 42;
  static constexpr uint64_t kFeature = 1ull << 9;
  static constexpr std::array<uint16_t, 2> kSizes = {64, 16};

  uint32_t id() const override { return kId; }
  uint64_t features() const override { return kFeature; }
  std::span<const uint16_t> queue_max_sizes() const override { return kSizes; }
  void read_config(uint64_t offset, std::span<std::byte> data) override {
    std::ranges::fill(data, std::byte{0});
    for (size_t i = 0; i < data.size() && offset + i < config.size(); ++i)
      data[i] = config[offset + i];
  }
  void write_config(uint64_t offset, std::span<const std::byte> data) override {
    for (size_t i = 0; i < data.size() && offset + i < config.size(); ++i)
      config[offset + i] = data[i];
  }
  void activate(uint64_t accepted, std::vector<virtio::ActiveQueue> moved_in,
                virtio::DriverNotifier& to_driver) override {
    ++activations;
    features_accepted = accepted;
    for (const virtio::ActiveQueue& queue : moved_in) queue_indices.push_back(queue.index);
    notifier = &to_driver;
  }
  void start_queue(virtio::ActiveQueue queue, virtio::DriverNotifier&) override {
    queue_indices.push_back(queue.index);
    queue_sizes.push_back(queue.ring.size());
  }
  void stop_queue(uint16_t index) override {
    ++stops;
    std::erase(queue_indices, index);
  }
  void reset() override {
    ++resets;
    queue_indices.clear();
    notifier = nullptr;
  }

  std::array<std::byte, 6> config{};
  int activations = 0;
  int resets = 0;
  int stops = 0;                      // calls of stop_queue()
  std::vector<uint16_t> queue_sizes;  // of the queues started by start_queue()
  uint64_t features_accepted = 0;
  std::vector<uint16_t> queue_indices;
  virtio::DriverNotifier* notifier = nullptr;
};

}  // namespace wick::fakes
