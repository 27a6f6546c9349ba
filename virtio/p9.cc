#include "virtio/p9.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/buffers.h"

namespace wick::virtio {

namespace {

// The state of a request that was submitted to the workers.
enum class Progress : uint8_t { kWaiting, kRunning, kCancelled };

}  // namespace

struct P9::InFlight {
  InFlight(Chain taken, p9::Request parsed) : chain(std::move(taken)), request(std::move(parsed)) {}

  Chain chain;
  p9::Request request;
  std::atomic<Progress> progress{Progress::kWaiting};
  size_t reply_bytes = 0;             // set by the worker; read by the loop after finish()
  std::vector<InFlight*> flushed_by;  // Tflush messages that wait for this request
};

Result<std::unique_ptr<P9>> P9::create(share::Tree& tree, EventLoop& loop, std::string tag) {
  auto done = TRY(EventFd::create());
  return std::unique_ptr<P9>(new P9(tree, loop, std::move(tag), std::move(done)));
}

P9::P9(share::Tree& tree, EventLoop& loop, std::string tag, EventFd done)
    : loop_(loop),
      tag_(std::move(tag)),
      name_("9p " + tag_),
      done_(std::move(done)),
      session_(tree) {}

P9::~P9() { reset(); }

void P9::read_config(uint64_t offset, std::span<std::byte> data) {
  struct {
    uint8_t tag_bytes[2];
    char tag[kMaxTagBytes];
  } config{};
  static_assert(offsetof(virtio_9p_config, tag) == sizeof(config.tag_bytes));
  const size_t size_bytes = tag_.copy(config.tag, sizeof(config.tag));
  store_le(std::as_writable_bytes(std::span(config.tag_bytes)), static_cast<uint16_t>(size_bytes));
  copy_config(config, offset, data);
}

void P9::activate(uint64_t, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  if (!queues.empty()) start_queue(std::move(queues.front()), notifier);
}

void P9::start_queue(ActiveQueue queue, DriverNotifier& notifier) {
  loop_.call([&] {
    auto workers = share::Workers::start(name_, kWorkers);
    // The watch is edge-triggered: each signal is one event, and the eventfd need not be read.
    auto watch = loop_.watch(done_.fd(), EPOLLIN | EPOLLET, [this](uint32_t) { collect(); });
    if (!workers || !watch) {
      spdlog::error("{}: {}", name_, (workers ? watch.error() : workers.error()).message());
      notifier.needs_reset();
      return;
    }
    workers_ = *std::move(workers);
    done_watch_ = *std::move(watch);
    ring_.emplace(loop_, std::move(queue), notifier, name_, warnings_, [this] { serve(); });
    serve();
  });
}

// Stops the only queue. The client's fids and open files remain, because the client does not know
// that its queue was stopped.
void P9::stop_queue(uint16_t) { stop(); }

void P9::reset() {
  stop();
  session_.reset();
}

// Stops the ring, the requests and the workers. Waits for the workers on the caller's thread, so
// that the loop runs on meanwhile. Requests that no worker has begun are cancelled.
void P9::stop() {
  share::Workers* workers = nullptr;
  loop_.call([&] {
    if (ring_) ring_->stop();
    for (const auto& request : in_flight_) {
      auto expected = Progress::kWaiting;
      request->progress.compare_exchange_strong(expected, Progress::kCancelled);
    }
    workers = workers_.get();
  });
  if (workers == nullptr) return;
  workers->wait_idle();
  loop_.call([&] {
    collect();
    in_flight_.clear();  // only a Tversion that was not submitted can be left
    alone_ = nullptr;
    done_watch_.reset();
    ring_.reset();
    workers_.reset();
  });
}

// Waits twice if a Tversion waits for the other requests: the Tversion starts when the other
// requests are complete.
void P9::pause() {
  for (;;) {
    share::Workers* const busy = loop_.call([this] {
      paused_ = true;
      collect();
      return submitted_ > 0 ? workers_.get() : nullptr;
    });
    if (busy == nullptr) return;
    busy->wait_idle();
  }
}

void P9::resume() {
  loop_.call([this] {
    paused_ = false;
    serve();
  });
}

void P9::serve() {
  if (!ring_ || paused_) return;
  ring_->serve([this] { return alone_ == nullptr; },
               [this](Chain chain) { take(std::move(chain)); });
}

void P9::take(Chain chain) {
  auto parsed = p9::Request::parse(chain.readable(), session_.msize());
  if (!parsed) {
    warnings_.warn("{}: the driver sent a request without a header", name_);
    return;  // returns the chain with length 0
  }
  in_flight_.push_back(std::make_unique<InFlight>(std::move(chain), *std::move(parsed)));
  InFlight& request = *in_flight_.back();
  if (std::holds_alternative<p9::Version>(request.request.body)) {
    alone_ = &request;
    if (in_flight_.size() == 1) submit(request);
  } else if (const auto* flushing = std::get_if<p9::Flush>(&request.request.body)) {
    flush(request, flushing->old_tag);
  } else {
    submit(request);
  }
}

// Handles Tflush, which names another request by its tag. If that request gets a reply, the reply
// to Tflush must follow it (Plan 9, flush(5)). When Linux gets Rflush, it forgets the other
// request, so the chain of that request must be completed before. A request that no worker has
// begun is cancelled and gets no reply.
void P9::flush(InFlight& request, uint16_t old_tag) {
  const auto named = [&](const auto& other) {
    return other.get() != &request && other->request.tag == old_tag;
  };
  // If a client uses a tag twice, against the rules, Tflush means the newest request with it.
  const auto old = std::find_if(in_flight_.rbegin(), in_flight_.rend(), named);
  if (old == in_flight_.rend()) return complete({&request});
  auto expected = Progress::kWaiting;
  (*old)->progress.compare_exchange_strong(expected, Progress::kCancelled);
  (*old)->flushed_by.push_back(&request);
}

void P9::submit(InFlight& request) {
  ++submitted_;
  workers_->submit([this, &request] {
    auto expected = Progress::kWaiting;
    if (request.progress.compare_exchange_strong(expected, Progress::kRunning))
      request.reply_bytes = session_.execute(request.request, request.chain.writable());
    finish(request);
  });
}

// Reports an executed request to the loop. Called by the workers.
void P9::finish(InFlight& request) {
  bool first = false;
  {
    const MutexLock lock(mutex_);
    first = finished_.empty();
    finished_.push_back(&request);
  }
  if (first) done_.signal();
}

void P9::collect() {
  std::vector<InFlight*> finished;
  {
    const MutexLock lock(mutex_);
    std::swap(finished, finished_);
  }
  if (finished.empty()) return;
  submitted_ -= finished.size();
  complete(std::move(finished));
  if (alone_ != nullptr && in_flight_.size() == 1 && ring_->active()) submit(*alone_);
  serve();
}

// Completes the requests, and the Tflush messages that wait for them.
void P9::complete(std::vector<InFlight*> requests) {
  for (size_t i = 0; i < requests.size(); ++i) {
    InFlight& request = *requests[i];
    requests.insert(requests.end(), request.flushed_by.begin(), request.flushed_by.end());
    if (std::holds_alternative<p9::Flush>(request.request.body)) {
      p9::Reply reply(p9::reply_type(p9::P9_TFLUSH));
      const auto bytes = reply.finish(request.request.tag);
      if (total_bytes(request.chain.writable()) >= bytes.size())
        request.reply_bytes = BufferCursor(request.chain.writable()).write(bytes);
    }
    if (request.reply_bytes == 0 && request.progress == Progress::kRunning)
      warnings_.warn("{}: the driver sent a request without room for a reply", name_);
    if (alone_ == &request) alone_ = nullptr;
    std::move(request.chain).complete(static_cast<uint32_t>(request.reply_bytes));
    std::erase_if(in_flight_, [&](const auto& other) { return other.get() == &request; });
  }
  ring_->interrupt();
}

}  // namespace wick::virtio
