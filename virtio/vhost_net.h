// A queue pair of a network card whose packets the host's kernel moves: vhost-net
// (linux/vhost.h). It works on the rings itself, checks them as we do, is kicked by
// the transport's descriptors and interrupts by one of ours, which KVM turns into the
// guest's interrupt where the transport can connect it.
//
// Thread rule: the loop's thread, but for open().
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "virtio/device.h"

namespace wick::virtio {

class VhostNet {
 public:
  // Of the features of rings and card those that need the kernel's support, which open()
  // makes sure of: VIRTIO_F_* and VIRTIO_NET_F_MRG_RXBUF.
  static Result<std::unique_ptr<VhostNet>> open();
  ~VhostNet() { stop(); }

  // One of the pair: the receive queue has an even index. `features`, `tap`, a TAP's
  // descriptor with virtio-net headers, and the references, which must outlive stop(), are the
  // same for both; `name` is for messages.
  Result<void> start_queue(EventLoop& loop, uint64_t features, ActiveQueue queue, int tap,
                           DriverNotifier& notifier, const std::string& name);
  // They return when the kernel touches the ring, or the rings, no more; harmless when not
  // started. `index`: 0 for receive, 1 for transmit.
  void stop_queue(unsigned index);
  void stop();

 private:
  // In the kernel's order.
  static constexpr size_t kQueues = 2;
  struct Queue {
    std::optional<ActiveQueue> active;
    std::optional<EventFd> call;   // the kernel interrupts
    std::optional<EventFd> error;  // the driver broke the ring
    EventLoop::Watch call_watch;   // where the transport does not connect it
    EventLoop::Watch error_watch;
  };

  explicit VhostNet(Fd fd) : fd_(std::move(fd)) {}
  Result<void> set_up(unsigned index, EventLoop& loop, DriverNotifier& notifier);
  Result<void> set_memory(const GuestMemory& memory);
  void set_backend(unsigned index, int tap) const;

  const Fd fd_;
  std::array<Queue, kQueues> queues_;
  DriverNotifier* notifier_ = nullptr;  // while started
  const std::string* name_ = nullptr;
  RateLimit complaints_;
};

}  // namespace wick::virtio
