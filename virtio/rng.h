// The virtio entropy device (virtio 1.2, 5.4): random bytes from getrandom(2),
// or from a file such as /dev/random or /dev/hwrng.
//
// If the file has no data at the moment, a timer tries again later, because /dev/hwrng does not
// support epoll(7). If the file ends or fails, the device logs that and uses getrandom(2) from
// then on, so that the guest does not wait for ever.
//
// Thread rule: VirtioDevice's calls as documented there; everything else on the loop.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "virtio/loop_queue.h"

namespace wick::virtio {

class Rng final : public VirtioDevice {
 public:
  // `path` names the file; if it is empty, getrandom(2) is used. The loop must outlive the
  // device.
  static Result<std::unique_ptr<Rng>> create(EventLoop& loop, const std::string& path);

  uint32_t id() const override { return VIRTIO_ID_RNG; }
  uint64_t features() const override { return 0; }
  std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t) override { reset(); }
  void reset() override;

 private:
  static constexpr std::array<uint16_t, 1> kQueueSizes = {64};

  Rng(EventLoop& loop, std::string path) : loop_(loop), path_(std::move(path)) {}
  void serve();
  bool fill(LoopQueue::Request& request, size_t& budget);
  size_t draw(std::span<std::byte> room);

  // Constant after construction.
  EventLoop& loop_;
  const std::string path_;
  const std::string name_ = "rng";

  // Owned by the loop's thread.
  Fd file_;  // invalid: getrandom(2) is used
  EventLoop::Timer retry_;
  std::optional<LoopQueue> queue_;
  RateLimit warnings_;
};

}  // namespace wick::virtio
