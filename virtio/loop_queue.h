// A virtqueue that its device serves on an event loop: from the kick over the
// chains to the interrupt, one bounded turn at a time, so that a driver that
// never stops keeps the loop from nothing else.
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

// Goes through the buffers of a chain, which must outlive it.
class BufferCursor {
 public:
  explicit BufferCursor(std::span<const iovec> buffers) : buffers_(buffers) {}

  // The next bytes, of one buffer and at most `most_bytes`; empty at the end.
  std::span<std::byte> front(size_t most_bytes);
  // Past the first of what front() gave.
  void advance(size_t size_bytes) { offset_ += size_bytes; }

  // Copies as much as there is, and returns how much.
  size_t read(std::span<std::byte> to);
  size_t write(std::span<const std::byte> from);

 private:
  std::span<const iovec> buffers_;
  size_t offset_ = 0;  // into the first of them
};

class LoopQueue {
 public:
  // A chain that is being served, perhaps over several turns.
  struct Request {
    explicit Request(Chain taken)
        : chain(std::move(taken)), readable(chain.readable()), writable(chain.writable()) {}
    Chain chain;
    BufferCursor readable;
    BufferCursor writable;
    uint32_t written_bytes = 0;  // of `writable`, from its beginning
  };
  // Works on a request, takes what that cost off `budget`, and says whether the
  // request is done. False while there is budget left: it waits for something,
  // after which the device calls serve() again.
  using Step = std::function<bool(Request& request, size_t& budget)>;

  // `on_kick` is called on the loop whenever the driver says that there is
  // more; what is there already, the device looks for by itself. `name` and
  // `complaints` are the device's, for messages. All must outlive it.
  LoopQueue(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, const std::string& name,
            RateLimit& complaints, std::function<void()> on_kick);
  LoopQueue(const LoopQueue&) = delete;
  LoopQueue& operator=(const LoopQueue&) = delete;

  // One turn: at most `budget` of work and one ring's worth of chains, then an
  // interrupt if the driver wants one; what is left is kicked to the next turn.
  void serve(size_t budget, const Step& step);

  // The parts of a turn, for a queue whose buffers wait for the host's data:
  // the oldest request that is not completed yet, or nullptr. A broken ring has
  // none for ever, and the driver is told to reset the device.
  Request* current();
  void complete();
  void interrupt();
  // With no request left: on_kick is called for the next one. True: it is
  // there already.
  bool wait_for_kick() { return !broken_ && queue_.ring.enable_notifications(); }

 private:
  void give_up(const std::string& why);

  ActiveQueue queue_;
  DriverNotifier& notifier_;
  const std::string& name_;
  RateLimit& complaints_;
  EventLoop::Watch kick_watch_;
  std::optional<Request> request_;
  bool broken_ = false;
};

// Takes `cost` off `budget`, as far as there is one.
inline void spend(size_t& budget, size_t cost) { budget -= std::min(budget, cost); }

}  // namespace wick::virtio
