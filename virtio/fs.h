// The virtio file system device (virtio 1.2, 5.11). The guest is a FUSE client; the device serves
// its requests with a FuseSession over a folder of the host.
//
// The loop pops chains from the high priority queue and the single request queue. Worker threads
// execute the requests, several at a time and in any order, so that a slow call of the host stalls
// neither the loop nor other requests. The loop then completes the chains.
//
// Thread rule: VirtioDevice's calls as documented there; pause() and resume() on one other thread;
// everything else on the loop. A chain belongs to one worker while its request is executed.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "share/workers.h"
#include "virtio/fuse_session.h"
#include "virtio/kicked_ring.h"

namespace wick::virtio {

class Fs final : public VirtioDevice {
 public:
  static constexpr size_t kTagBytes = 36;      // the maximum size of a tag (5.11.4)
  static constexpr size_t kMaxWorkers = 8;     // the maximum number of worker threads
  static constexpr size_t kMaxInFlight = 128;  // requests that are popped and not yet completed

  // `tag` has at most kTagBytes bytes and is the name by which the guest mounts the folder. `tree`
  // and `loop` must outlive the device.
  static Result<std::unique_ptr<Fs>> create(share::Tree& tree, EventLoop& loop,
                                            const std::string& tag, FuseCache cache);
  ~Fs() override;

  // Waits for the requests in flight, and holds new requests until resume(). Repeated calls are
  // allowed.
  void pause();
  void resume();

  uint32_t id() const override { return VIRTIO_ID_FS; }
  uint64_t features() const override { return 0; }
  std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override;
  void reset() override;

 private:
  struct Request;
  // 5.11.2: the high priority queue, then the request queue. The size of the request queue limits
  // the pages of one request: Linux needs four entries more than pages, so 512 allows
  // FuseSession::kMaxPages.
  static constexpr std::array<uint16_t, 2> kQueueSizes = {128, 512};

  Fs(share::Tree& tree, EventLoop& loop, const std::string& tag, FuseCache cache, EventFd finished);
  void start(ActiveQueue queue, DriverNotifier& notifier);
  void serve(size_t index);
  void serve_all();
  void submit(size_t index, Chain chain);
  void finish();
  // Calls `function` on the loop while no request is in flight and no new request is taken.
  template <typename Function>
  void while_idle(Function function);

  // Constant after construction.
  EventLoop& loop_;
  const std::string tag_;
  const std::string name_;
  FuseSession session_;
  const EventFd finished_event_;

  // Owned by the loop's thread.
  EventLoop::Watch finished_watch_;
  std::array<std::unique_ptr<KickedRing>, kQueueSizes.size()> queues_;
  std::unique_ptr<share::Workers> workers_;  // while there is a driver
  size_t in_flight_ = 0;
  int holds_ = 0;  // requests are taken only if this is 0
  bool paused_ = false;
  RateLimit warnings_;

  Mutex mutex_;
  std::vector<std::shared_ptr<Request>> finished_ GUARDED_BY(mutex_);  // executed, not completed
};

}  // namespace wick::virtio
