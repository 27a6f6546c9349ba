// A virtqueue that a device serves on an event loop: it watches the kick, pops chains
// and sends the interrupt. A turn is bounded, so that a driver that adds chains without
// end does not keep the loop from its other work.
//
// Thread rule: the loop's thread only.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "virtio/device.h"

namespace wick::virtio {

// Iterates over the bytes of a chain's buffers. The chain must outlive it.
class BufferCursor {
 public:
  explicit BufferCursor(std::span<const iovec> buffers) : buffers_(buffers) {}

  // Returns the next bytes within one buffer, at most `max_bytes`; empty at the end.
  std::span<std::byte> front(size_t max_bytes);
  // Skips the first `size_bytes` of the bytes that front() returned.
  void advance(size_t size_bytes) { offset_ += size_bytes; }

  // Copy until `to` is full or `from` is empty, or until the buffers end; return the number
  // of bytes copied.
  size_t read(std::span<std::byte> to);
  size_t write(std::span<const std::byte> from);

 private:
  std::span<const iovec> buffers_;
  size_t offset_ = 0;  // in the first buffer
};

class LoopQueue {
 public:
  // A chain being served, possibly over several turns.
  struct Request {
    explicit Request(Chain taken)
        : chain(std::move(taken)), readable(chain.readable()), writable(chain.writable()) {}
    Chain chain;
    BufferCursor readable;
    BufferCursor writable;
    uint32_t written_bytes = 0;  // of `writable`, from its beginning
  };
  // Works on a request, subtracts the cost from `budget`, and returns whether the request is
  // done. If it returns false although there is budget left, the request waits for an event
  // after which the device calls serve() again.
  using Step = std::function<bool(Request& request, size_t& budget)>;

  // `on_kick` is called on the loop for each notification by the driver. There is no call
  // for chains that are in the ring already. `name` and `warnings` are the device's, for
  // messages. All references must outlive the queue.
  LoopQueue(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, const std::string& name,
            RateLimit& warnings, std::function<void()> on_kick);
  LoopQueue(const LoopQueue&) = delete;
  LoopQueue& operator=(const LoopQueue&) = delete;

  // Makes one turn: does at most `budget` of work and completes at most as many chains as
  // the ring has entries, then interrupts the driver if it wants that. If the turn ends
  // early, the queue kicks itself for another one.
  void serve(size_t budget, const Step& step);

  // The parts of a turn, for a queue whose buffers wait for data of the host.

  // Returns the oldest request that is not completed yet, or nullptr. If the ring is
  // broken, returns nullptr from then on, and the device needs a reset.
  Request* current();
  void complete();
  void interrupt();
  // Enables notifications, after current() has returned nullptr. Returns true if there is a
  // request already, for which on_kick may not be called.
  bool wait_for_kick() { return !broken_ && queue_.ring.enable_notifications(); }

 private:
  void mark_broken(const std::string& why);

  ActiveQueue queue_;
  DriverNotifier& notifier_;
  const std::string& name_;
  RateLimit& warnings_;
  EventLoop::Watch kick_watch_;
  std::optional<Request> request_;
  bool broken_ = false;
};

// Subtracts `cost` from `budget`, down to 0.
inline void spend(size_t& budget, size_t cost) { budget -= std::min(budget, cost); }

}  // namespace wick::virtio
