#include "virtio/loop_queue.h"

#include <algorithm>
#include <cstring>

namespace wick::virtio {

void LoopQueue::serve(size_t budget, const Step& step) {
  const auto advance = [&] {
    if (!step(*request_, budget)) return;
    std::move(request_->chain).complete(request_->written_bytes);
    request_.reset();
  };
  if (request_) advance();
  ring_.serve([&] { return budget > 0 && !request_; },
              [&](Chain chain) {
                request_.emplace(std::move(chain));
                advance();
              });
  if (budget == 0) ring_.kick();
}

}  // namespace wick::virtio
