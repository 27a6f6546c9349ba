// The virtio 9P transport: the guest accesses a share with 9P2000.L. Each chain holds one request
// and its reply. virtio 1.2 reserves the device ID but does not describe the device; Linux's
// <linux/virtio_9p.h> and net/9p/trans_virtio.c do.
//
// kWorkers threads execute the requests, so that one slow host call does not delay the others. The
// threads exist while a driver uses the device. Two messages depend on other requests: the device
// answers a Tflush after the request that the Tflush names, and submits a Tversion when no other
// request is in flight.
//
// Thread rule: VirtioDevice's calls as documented there; pause() and resume() on one other thread;
// everything else on the loop.
#pragma once

#include <linux/virtio_9p.h>

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "share/tree.h"
#include "share/workers.h"
#include "virtio/loop_queue.h"
#include "virtio/p9_session.h"

namespace wick::virtio {

class P9 final : public VirtioDevice {
 public:
  static constexpr size_t kMaxTagBytes = 255;
  static constexpr size_t kWorkers = 4;

  // The guest mounts the share by `tag`, which has 1 to kMaxTagBytes bytes. `tree` and `loop` must
  // outlive the device; no other device may use the tree.
  static Result<std::unique_ptr<P9>> create(share::Tree& tree, EventLoop& loop, std::string tag);
  ~P9() override;

  uint32_t id() const override { return VIRTIO_ID_9P; }
  uint64_t features() const override { return feature_bit(VIRTIO_9P_MOUNT_TAG); }
  std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override;
  // Also closes all files that the driver has opened.
  void reset() override;

  // Waits for the requests that the workers have, and leaves new requests in the ring until
  // resume(). Repeated calls are allowed.
  void pause();
  void resume();

 private:
  // Linux uses up to 128 buffers in a chain, and up to 128 requests at a time.
  static constexpr std::array<uint16_t, 1> kQueueSizes = {128};

  struct InFlight;

  P9(share::Tree& tree, EventLoop& loop, std::string tag, EventFd done);
  void stop();
  void serve();
  void take(Chain chain);
  void flush(InFlight& request, uint16_t old_tag);
  void submit(InFlight& request);
  void finish(InFlight& request);
  void collect();
  void complete(std::vector<InFlight*> requests);

  // Constant after construction.
  EventLoop& loop_;
  const std::string tag_;
  const std::string name_;  // used in messages
  const EventFd done_;      // signalled when finished_ is no longer empty

  p9::Session session_;

  // Owned by the loop's thread.
  std::optional<KickedRing> ring_;
  EventLoop::Watch done_watch_;
  std::vector<std::unique_ptr<InFlight>> in_flight_;
  size_t submitted_ = 0;       // requests given to the workers and not collected yet
  InFlight* alone_ = nullptr;  // a Tversion that is executed, or waits until the others are done
  bool paused_ = false;
  RateLimit warnings_;

  Mutex mutex_;
  std::vector<InFlight*> finished_ GUARDED_BY(mutex_);  // executed and not yet completed

  // Owned by the loop's thread. Last, so that its threads are joined before the rest is destroyed.
  std::unique_ptr<share::Workers> workers_;
};

}  // namespace wick::virtio
