// The virtio block device (virtio 1.2, 5.2). A block::Backend on the disk's own loop
// executes the requests of its virtqueues.
//
// Thread rule: VirtioDevice's calls as documented there; everything else on the loop.
// Requests run concurrently and complete in any order.
#pragma once

#include <linux/virtio_blk.h>

#include <atomic>
#include <memory>
#include <semaphore>
#include <string>
#include <vector>

#include "block/backend.h"
#include "block/byte_budget.h"
#include "virtio/blk_request.h"
#include "virtio/kicked_ring.h"

namespace wick::virtio {

class Blk final : public VirtioDevice {
 public:
  // `backend` belongs to `loop`; both must outlive the device. GET_ID returns the first 20
  // bytes of `serial`. `name` is used in messages. `queues` is at least 1.
  Blk(block::Backend& backend, EventLoop& loop, std::string serial, std::string name,
      uint16_t queues = 1);

  // Notifies the driver if the back end's size has changed. Must be called on the loop.
  void update_capacity();

  uint32_t id() const override { return VIRTIO_ID_BLOCK; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_max_sizes() const override { return queue_sizes_; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override;
  void reset() override;

 private:
  struct Queue {
    KickedRing ring;
    uint32_t in_flight = 0;
    bool used_in_round = false;  // chains were taken or completed in this round of the loop
  };

  void start(uint64_t features, std::vector<ActiveQueue> queues, DriverNotifier& notifier);
  void add(ActiveQueue queue);
  void release_when_zero(const uint32_t& in_flight, std::binary_semaphore& idle);
  void process_queue(size_t index);
  bool end_round();
  Task<void> serve(Queue& queue, Chain chain);
  Task<uint8_t> execute(BlkRequest& request, const Queue& queue);
  Task<Result<void>> execute_in_pieces(const BlkRequest& request, const Queue& queue);
  Task<Result<void>> execute_piece(const BlkRequest& request, uint64_t done, uint64_t length);
  // Returns true if stop_queue() or reset() waits for the queue's requests.
  bool drains(const Queue& queue) const {
    return idle_ != nullptr && (drained_ == &in_flight_ || drained_ == &queue.in_flight);
  }

  // Constant after construction.
  block::Backend& backend_;
  EventLoop& loop_;
  const std::string serial_;
  const std::string name_;
  const std::vector<uint16_t> queue_sizes_;
  virtio_blk_config config_{};  // without the capacity, which may change

  std::atomic<uint64_t> capacity_sectors_;  // changed by the loop's thread

  // Owned by the loop's thread.
  std::vector<std::unique_ptr<Queue>> queues_;  // by index; nullptr: not in use
  DriverNotifier* notifier_ = nullptr;
  EventLoop::RoundEnd round_end_;         // set while there is a driver
  bool capacity_change_pending_ = false;  // the capacity changed while there was no driver
  BlkLimits limits_;
  uint32_t in_flight_ = 0;              // requests in all queues
  block::ByteBudget pieces_{16 << 20};  // limits the pieces of long requests that run at a time
  bool stalled_ = false;                // queues wait until fewer requests are in flight
  size_t first_after_stall_ = 0;        // the queue that is served first after a stall
  // While stop_queue() or reset() waits: *idle_ is released when *drained_ becomes 0. drained_
  // points to in_flight_ of this object or of a queue.
  const uint32_t* drained_ = nullptr;
  std::binary_semaphore* idle_ = nullptr;
  RateLimit warnings_;
};

}  // namespace wick::virtio
