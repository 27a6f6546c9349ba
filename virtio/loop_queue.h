// A virtqueue whose chains a device serves one after the other. Each chain is a stream of bytes,
// and may take several turns.
//
// Thread rule: the loop's thread only.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/buffers.h"
#include "virtio/kicked_ring.h"

namespace wick::virtio {

class LoopQueue {
 public:
  // A chain being served.
  struct Request {
    explicit Request(Chain taken)
        : chain(std::move(taken)), readable(chain.readable()), writable(chain.writable()) {}
    Chain chain;
    BufferCursor readable;
    BufferCursor writable;
    uint32_t written_bytes = 0;  // to the chain's writable part, from its beginning
  };
  // Works on a request, subtracts the cost from `budget`, and returns whether the request is
  // done. If it returns false although there is budget left, the request waits for an event of the
  // device, which then calls serve() again.
  using Step = std::function<bool(Request& request, size_t& budget)>;

  // The parameters are those of KickedRing's constructor.
  LoopQueue(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, const std::string& name,
            RateLimit& warnings, std::function<void()> on_kick)
      : ring_(loop, std::move(queue), notifier, name, warnings, std::move(on_kick)) {}

  // Serves the ring like KickedRing::serve(), but also ends the turn when `budget` is used up, and
  // then signals the kick, so that another turn follows. Does not signal the kick when a request
  // waits for an event.
  void serve(size_t budget, const Step& step);

 private:
  KickedRing ring_;
  std::optional<Request> request_;  // popped and not completed yet
};

// Subtracts `cost` from `budget`, but not below 0.
inline void spend(size_t& budget, size_t cost) { budget -= std::min(budget, cost); }

}  // namespace wick::virtio
