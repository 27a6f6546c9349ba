// A virtqueue whose chains a device serves one after the other, each as a stream of bytes,
// and possibly over several turns.
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
    uint32_t written_bytes = 0;  // of `writable`, from its beginning
  };
  // Works on a request, subtracts the cost from `budget`, and returns whether the request is
  // done. If it returns false although there is budget left, the request waits for an event
  // after which the device calls serve() again.
  using Step = std::function<bool(Request& request, size_t& budget)>;

  // The parameters are KickedRing's.
  LoopQueue(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, const std::string& name,
            RateLimit& warnings, std::function<void()> on_kick)
      : ring_(loop, std::move(queue), notifier, name, warnings, std::move(on_kick)) {}

  // Like KickedRing::serve(), but also ends when `budget` is used up; then it signals the kick, to
  // get another turn. It does not signal the kick when a request waits for an event.
  void serve(size_t budget, const Step& step);

 private:
  KickedRing ring_;
  std::optional<Request> request_;  // popped and not completed yet
};

// Subtracts `cost` from `budget`, down to 0.
inline void spend(size_t& budget, size_t cost) { budget -= std::min(budget, cost); }

}  // namespace wick::virtio
