// The virtio memory balloon (virtio 1.2, 5.5), which returns unused guest memory to the
// host in two ways.
//
// Free page reporting (VIRTIO_BALLOON_F_REPORTING): the guest reports free ranges by
// itself, and may use them again at any time. Linux reports blocks of 2 MiB or more, so
// the host's huge pages need not be split.
//
// Inflation: set_target() asks the guest to give up memory, page by page. If the guest gives up
// only a part of a huge page, the host splits that page later, when it is short of memory, and
// only then frees the part.
//
// In both cases the memory then reads as zeroes, and the next access causes a page fault.
//
// Thread rule: VirtioDevice's calls as documented there; any thread may call set_target()
// and actual_bytes(); everything else on the loop.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "base/guest_memory.h"
#include "virtio/loop_queue.h"

namespace wick::virtio {

class Balloon final : public VirtioDevice {
 public:
  // `memory` and `loop` must outlive the device. The initial target is 0.
  Balloon(const GuestMemory& memory, EventLoop& loop) : memory_(memory), loop_(loop) {}

  // Sets how much RAM the guest should give up. The guest need not comply, and deflates
  // the balloon before it runs out of memory (VIRTIO_BALLOON_F_DEFLATE_ON_OOM).
  void set_target(uint64_t size_bytes);
  // Returns the amount that the guest claims to have given up.
  uint64_t actual_bytes() const;
  // Sets the function to call, on a vCPU's thread, when the guest changes actual_bytes(). Must be
  // called before the first vCPU runs.
  void on_change(std::function<void()> changed) { changed_ = std::move(changed); }

  uint32_t id() const override { return VIRTIO_ID_BALLOON; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void write_config(uint64_t offset, std::span<const std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override {
    loop_.call([&] { queues_[index].reset(); });
  }
  void reset() override;

 private:
  // Inflate, deflate, reporting. The specification gives the reporting queue the index 4, but QEMU
  // and Linux count only queues whose feature is offered. Linux needs at least 32 entries in the
  // reporting queue.
  static constexpr std::array<uint16_t, 3> kQueueSizes = {128, 128, 128};

  void start(ActiveQueue queue);
  void serve(uint16_t queue);
  bool inflate(LoopQueue::Request& request, size_t& budget);
  bool discard_reported(LoopQueue::Request& request, size_t& budget);
  void warn_if_failed(const Result<void>& discarded);

  // Constant after construction.
  const GuestMemory& memory_;
  EventLoop& loop_;
  const std::string name_ = "balloon";
  std::function<void()> changed_;

  std::atomic<uint32_t> target_pages_{0};
  std::atomic<uint32_t> actual_pages_{0};  // written by the driver

  // Owned by the loop's thread.
  std::array<std::unique_ptr<LoopQueue>, kQueueSizes.size()> queues_;
  DriverNotifier* notifier_ = nullptr;
  RateLimit warnings_;
};

}  // namespace wick::virtio
