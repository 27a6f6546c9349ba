// The virtio 9P transport: a share for the guest by 9P2000.L, one request and its reply in each
// chain. virtio 1.2 reserves the device ID but does not describe the device; Linux's
// <linux/virtio_9p.h> and net/9p/trans_virtio.c do.
//
// Worker threads execute the requests, so that a slow host call keeps no other request waiting.
// They exist while there is a driver. Two messages are about other requests, and the device
// itself handles these: Tflush is answered after the request that it names, and Tversion is
// executed while no other request is.
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

  // The guest mounts the share by `tag`, of 1 to kMaxTagBytes bytes. `tree` and `loop` must
  // outlive the device; no other device uses the tree.
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
  // Closes all files of the driver, too.
  void reset() override;

  // Waits for the requests in flight, and leaves new ones in the ring until resume(). Both may be
  // called again.
  void pause();
  void resume();

 private:
  // Linux has up to 128 buffers in a chain, and as many requests at a time.
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
  const std::string name_;  // in messages
  const EventFd done_;      // signalled when finished_ is no longer empty

  p9::Session session_;

  // Owned by the loop's thread.
  std::optional<KickedRing> ring_;
  EventLoop::Watch done_watch_;
  std::vector<std::unique_ptr<InFlight>> in_flight_;
  size_t submitted_ = 0;       // of these, with the workers or finished
  InFlight* alone_ = nullptr;  // a Tversion that waits for the others, or is executed
  bool paused_ = false;
  RateLimit warnings_;

  Mutex mutex_;
  std::vector<InFlight*> finished_ GUARDED_BY(mutex_);  // executed and not yet completed

  std::unique_ptr<share::Workers> workers_;  // owned by the loop's thread; joined first
};

}  // namespace wick::virtio
