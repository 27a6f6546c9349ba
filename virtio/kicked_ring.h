// A virtqueue that a device serves on an event loop: watches the queue's kick, pops chains in
// bounded turns, and interrupts the driver.
//
// Thread rule: the loop's thread only.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "base/event_loop.h"
#include "base/log.h"
#include "virtio/device.h"

namespace wick::virtio {

class KickedRing {
 public:
  // `on_kick` is called on the loop for each notification by the driver, but not for chains that
  // are in the ring already. `name` and `warnings` are those of the device, for messages. All
  // references must outlive the ring.
  KickedRing(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, const std::string& name,
             RateLimit& warnings, std::function<void()> on_kick);
  KickedRing(const KickedRing&) = delete;
  KickedRing& operator=(const KickedRing&) = delete;

  // Makes one turn: passes chains to `take(Chain)` while there are chains and `ready()` is true,
  // then interrupts the driver. A turn takes at most as many chains as the ring has entries;
  // otherwise a driver that adds chains without end would keep the loop from its other work. A
  // turn that reaches this limit signals the kick, so that another turn follows.
  template <typename Ready, typename Take>
  void serve(Ready ready, Take take) {
    if (!active()) return;
    serving_ = true;
    size_t left = active_.ring.size();
    do {
      left -= take_chains(left, ready, take);
    } while (left > 0 && ready() && wait_for_kick());
    serving_ = false;
    interrupt();
    if (left == 0) kick();
  }

  // The following functions are the parts of a turn, for a device that needs several chains at
  // once, or that interrupts the driver later.

  // Disables notifications, and passes up to `limit` chains to `take(Chain)` while there are chains
  // and `ready()` is true. Returns the number of chains passed.
  template <typename Ready, typename Take>
  size_t take_chains(size_t limit, Ready& ready, Take& take) {
    active_.ring.disable_notifications();
    size_t taken = 0;
    for (; taken < limit && ready(); ++taken) {
      auto chain = pop();
      if (!chain) break;
      take(*std::move(chain));
    }
    return taken;
  }
  // Returns the next chain; nullopt if the ring is empty, inactive or broken. If the driver has
  // broken the ring, it is no longer active, and the device needs a reset.
  std::optional<Chain> pop();
  // Enables notifications, after pop() has found no chain. Returns true if the driver has added a
  // chain meanwhile, for which there may be no notification.
  bool wait_for_kick() { return active() && active_.ring.enable_notifications(); }
  // Interrupts the driver if it wants an interrupt for the chains completed since the last call.
  // Does nothing during serve(), which interrupts at its end.
  void interrupt() {
    if (!serving_ && active_.ring.interrupt_needed()) notifier_.queue_interrupt(active_.index);
  }
  // Causes another call of on_kick, unless the ring is stopped or destroyed before that.
  // (EventLoop::post() would be wrong here: the posted function would run even if the ring is
  // destroyed before.)
  void kick() const { active_.kick->signal(); }

  bool active() const { return kick_watch_.active(); }
  // From now on pop() returns nothing and on_kick is not called. Chains that were popped can
  // still be completed.
  void stop() { kick_watch_.reset(); }
  VirtQueue& queue() { return active_.ring; }

 private:
  void mark_broken(const std::string& why);

  ActiveQueue active_;
  DriverNotifier& notifier_;
  const std::string& name_;
  RateLimit& warnings_;
  EventLoop::Watch kick_watch_;
  bool serving_ = false;
};

}  // namespace wick::virtio
