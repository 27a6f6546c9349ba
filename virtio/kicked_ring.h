// A virtqueue that a device serves on an event loop: watches the kick, pops chains in bounded
// turns, and interrupts the driver.
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
  // `on_kick` is called on the loop for each notification by the driver. There is no call
  // for chains that are in the ring already. `name` and `warnings` are the device's, for
  // messages. All references must outlive the ring.
  KickedRing(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, const std::string& name,
             RateLimit& warnings, std::function<void()> on_kick);
  KickedRing(const KickedRing&) = delete;
  KickedRing& operator=(const KickedRing&) = delete;

  // Makes one turn: passes chains to `take(Chain)` while there are any and `ready()` is true,
  // then interrupts the driver. A turn takes at most as many chains as the ring has entries;
  // otherwise a driver that adds chains without end would keep the loop from its other work. A
  // turn that reaches this limit signals the kick, to get another turn.
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

  // The parts of a turn, for a device that needs several chains at once, or that interrupts the
  // driver later.

  // Disables notifications, and passes up to `limit` chains to `take(Chain)` while there are any
  // and `ready()` is true. Returns their number.
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
  // Returns the next chain, or nothing if there is none. If the driver has broken the ring,
  // the device needs a reset, and the ring is no longer active.
  std::optional<Chain> pop();
  // Enables notifications, after pop() has returned nothing. Returns true if a chain came
  // meanwhile; the driver may have sent no notification for it.
  bool wait_for_kick() { return active() && active_.ring.enable_notifications(); }
  // Interrupts the driver if it wants that for the chains completed since the last call;
  // during serve(), at its end.
  void interrupt() {
    if (!serving_ && active_.ring.interrupt_needed()) notifier_.queue_interrupt(active_.index);
  }
  // Causes another call of on_kick, unless the ring is stopped or destroyed before.
  // (EventLoop::post() would be wrong here: a posted function also runs after the ring is
  // destroyed.)
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
