// A queue pair of a network card that vhost-net in the host's kernel serves.
//
// Thread rule: the loop's thread, except open().
#pragma once

#include <array>
#include <memory>
#include <string>

#include "virtio/vhost.h"

namespace wick::virtio {

class VhostNet {
 public:
  // Opens /dev/vhost-net. Fails if the kernel lacks kVhostRingFeatures or VIRTIO_NET_F_MRG_RXBUF.
  static Result<std::unique_ptr<VhostNet>> open();
  ~VhostNet() { stop(); }

  // Starts one queue of the pair; the receive queue has an even index. `tap` is the descriptor
  // of a TAP with virtio-net headers; `name` is used in messages. Both queues must get the same
  // `features`, `tap` and references, which must be valid until stop().
  Result<void> start_queue(EventLoop& loop, uint64_t features, ActiveQueue queue, int tap,
                           DriverNotifier& notifier, const std::string& name);
  // Returns when the kernel no longer accesses the ring. Does nothing if the queue is not started.
  // `index` is 0 for receive, 1 for transmit.
  void stop_queue(unsigned index);
  // While held, the kernel does not access the started rings.
  void hold(bool held) const;
  // Stops both queues.
  void stop();

 private:
  explicit VhostNet(VhostFile file) : rings_(std::move(file)) {}
  void set_backend(unsigned index, int tap) const;

  VhostRings rings_;
  std::array<int, VhostRings::kRings> taps_{};  // the TAP of each started ring
};

}  // namespace wick::virtio
