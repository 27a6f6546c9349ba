// The virtio memory balloon (virtio 1.2, 5.5): memory that the guest can spare
// goes back to the host.
//
// Two ways: the guest reports ranges that are free (VIRTIO_BALLOON_F_REPORTING),
// by itself and for as long as it does not touch them; Linux does so in blocks
// of 2 MiB or more, each a huge page of the host, which is thereby freed whole.
// Or it is asked to give up some (set_target()), page by page: a huge page of
// which a part is given up is split, and freed when the host needs it.
// Either way what is given back reads as zeroes and costs a fault when touched.
//
// Thread rule: VirtioDevice's calls as written there; set_target() and
// actual_bytes() from any thread; everything else on the loop.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "base/guest_memory.h"
#include "virtio/loop_queue.h"

namespace wick::virtio {

class Balloon final : public VirtioDevice {
 public:
  // Both must outlive it. Asks for nothing at first.
  Balloon(const GuestMemory& memory, EventLoop& loop) : memory_(memory), loop_(loop) {}

  // How much of its RAM the guest shall do without; it may refuse, and takes
  // back what it needs before it runs out (VIRTIO_BALLOON_F_DEFLATE_ON_OOM).
  void set_target(uint64_t size_bytes);
  // How much it says that it does without.
  uint64_t actual_bytes() const;

  uint32_t id() const override { return 5; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void write_config(uint64_t offset, std::span<const std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override {
    loop_.post_and_wait([&] { queues_[index].reset(); });
  }
  void reset() override;

 private:
  // Inflate, deflate, reporting. The text gives reporting number 4, but QEMU and
  // Linux count only queues whose feature is offered. Linux wants room for 32
  // ranges there.
  static constexpr std::array<uint16_t, 3> kQueueSizes = {128, 128, 128};

  void start(ActiveQueue queue);
  void serve(uint16_t queue);
  bool inflate(LoopQueue::Request& request, size_t& budget);
  bool take_reported(LoopQueue::Request& request, size_t& budget);
  void check(const Result<void>& discarded);

  // Constant after construction.
  const GuestMemory& memory_;
  EventLoop& loop_;
  const std::string name_ = "balloon";

  std::atomic<uint32_t> target_pages_{0};
  std::atomic<uint32_t> actual_pages_{0};  // as the driver wrote it

  // Owned by the loop's thread.
  std::array<std::unique_ptr<LoopQueue>, kQueueSizes.size()> queues_;
  DriverNotifier* notifier_ = nullptr;
  RateLimit complaints_;
};

}  // namespace wick::virtio
