// A queue pair of a network card that vhost-net in the host's kernel serves
// (linux/vhost.h). The kernel processes and checks the rings itself. The transport's
// eventfds kick it, and it signals an eventfd of ours for an interrupt.
//
// Thread rule: the loop's thread, except open().
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "virtio/device.h"

namespace wick::virtio {

// The eventfd that vhost signals for an interrupt. While the transport can connect it (irqfd),
// KVM injects the interrupt without waking us; otherwise the loop sends it.
class VhostCall {
 public:
  // Both references must outlive the object.
  static Result<std::unique_ptr<VhostCall>> create(EventLoop& loop, DriverNotifier& notifier,
                                                   uint16_t queue);
  ~VhostCall() { notifier_.disconnect_interrupt(event_); }

  const EventFd& event() const { return event_; }

 private:
  VhostCall(DriverNotifier& notifier, EventFd event)
      : notifier_(notifier), event_(std::move(event)) {}

  DriverNotifier& notifier_;
  const EventFd event_;
  EventLoop::Watch watch_;
};

class VhostNet {
 public:
  // Opens /dev/vhost-net. Fails if the kernel lacks one of the features that need its
  // support: VIRTIO_F_* and VIRTIO_NET_F_MRG_RXBUF.
  static Result<std::unique_ptr<VhostNet>> open();
  ~VhostNet() { stop(); }

  // Starts one queue of the pair; the receive queue has an even index. `tap` is the descriptor
  // of a TAP with virtio-net headers; `name` is used in messages. Both queues must get the same
  // `features`, `tap` and references, which must be valid until stop().
  Result<void> start_queue(EventLoop& loop, uint64_t features, ActiveQueue queue, int tap,
                           DriverNotifier& notifier, const std::string& name);
  // Both return when the kernel does not access the ring or rings any more, and do nothing if
  // not started. `index` is 0 for receive, 1 for transmit.
  void stop_queue(unsigned index);
  // While held, the kernel does not access the rings. Does nothing if not started.
  void hold(bool held) const;
  void stop();

 private:
  // Receive and transmit, in the kernel's order.
  static constexpr size_t kQueues = 2;
  struct Queue {
    std::optional<ActiveQueue> active;
    int tap = -1;
    std::unique_ptr<VhostCall> call;
    std::optional<EventFd> error;  // the kernel signals it if the ring is broken
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
  RateLimit warnings_;
};

}  // namespace wick::virtio
