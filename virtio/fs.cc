#include "virtio/fs.h"

#include <linux/virtio_fs.h>

#include <utility>

namespace wick::virtio {

// A request in flight. The worker that executes it sets `written_bytes`.
struct Fs::Request {
  Request(Chain taken, size_t of_queue) : chain(std::move(taken)), queue(of_queue) {}
  Chain chain;
  size_t queue;
  uint32_t written_bytes = 0;
};

Result<std::unique_ptr<Fs>> Fs::create(share::Tree& tree, EventLoop& loop, const std::string& tag,
                                       FuseCache cache) {
  std::unique_ptr<Fs> fs(new Fs(tree, loop, tag, cache, TRY(EventFd::create())));
  // The watch comes last: if a later step failed, it could not be removed here, because the loop
  // may run already.
  fs->finished_watch_ = TRY(loop.watch(fs->finished_event_.fd(), EPOLLIN,
                                       [self = fs.get()](uint32_t) { self->finish(); }));
  return fs;
}

Fs::Fs(share::Tree& tree, EventLoop& loop, const std::string& tag, FuseCache cache,
       EventFd finished)
    : loop_(loop),
      tag_(tag),
      name_("share " + tag),
      session_(tree, cache),
      finished_event_(std::move(finished)) {}

Fs::~Fs() {
  loop_.call([this] { finished_watch_.reset(); });
}

void Fs::read_config(uint64_t offset, std::span<std::byte> data) {
  virtio_fs_config config{};
  static_assert(sizeof(config.tag) == kTagBytes);
  // 5.11.4: the tag is padded with NULs; a tag of full length has no NUL.
  tag_.copy(reinterpret_cast<char*>(config.tag), sizeof(config.tag));
  config.num_request_queues = 1;
  copy_config(config, offset, data);
}

void Fs::activate(uint64_t, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  loop_.call([&] {
    auto workers = share::Workers::start("fs-" + tag_, kMaxWorkers);
    if (!workers) {
      warnings_.warn("{}: {}", name_, workers.error().message());
      notifier.needs_reset();
      return;
    }
    workers_ = *std::move(workers);
    for (ActiveQueue& queue : queues) start(std::move(queue), notifier);
    serve_all();
  });
}

void Fs::start_queue(ActiveQueue queue, DriverNotifier& notifier) {
  loop_.call([&] {
    if (workers_ == nullptr) return;
    const size_t index = queue.index;
    start(std::move(queue), notifier);
    serve(index);
  });
}

void Fs::start(ActiveQueue queue, DriverNotifier& notifier) {
  const size_t index = queue.index;
  queues_[index] = std::make_unique<KickedRing>(loop_, std::move(queue), notifier, name_, warnings_,
                                                [this, index] { serve(index); });
}

void Fs::stop_queue(uint16_t index) {
  while_idle([this, index] { queues_[index].reset(); });
}

void Fs::reset() {
  while_idle([this] {
    for (auto& queue : queues_) queue.reset();
    workers_.reset();
    session_.reset();
  });
}

void Fs::pause() {
  while_idle([this] {
    if (!std::exchange(paused_, true)) ++holds_;
  });
}

void Fs::resume() {
  loop_.call([this] {
    if (!std::exchange(paused_, false)) return;
    --holds_;
    serve_all();
  });
}

// The wait ends, because the workers never wait for the loop, and the loop submits no requests
// while holds_ is not 0.
template <typename Function>
void Fs::while_idle(Function function) {
  share::Workers* const workers = loop_.call([this] {
    ++holds_;
    return workers_.get();
  });
  if (workers != nullptr) workers->wait_idle();
  loop_.call([&] {
    finish();
    function();
    --holds_;
    serve_all();
  });
}

void Fs::serve_all() {
  for (size_t index = 0; index < queues_.size(); ++index) serve(index);
}

void Fs::serve(size_t index) {
  if (queues_[index] == nullptr || holds_ > 0) return;
  queues_[index]->serve([this] { return in_flight_ < kMaxInFlight; },
                        [this, index](Chain chain) { submit(index, std::move(chain)); });
}

void Fs::submit(size_t index, Chain chain) {
  ++in_flight_;
  workers_->submit([this, request = std::make_shared<Request>(std::move(chain), index)]() mutable {
    request->written_bytes = session_.handle(request->chain.readable(), request->chain.writable());
    const MutexLock lock(mutex_);
    if (finished_.empty()) finished_event_.signal();
    finished_.push_back(std::move(request));
  });
}

// Completes the requests that the workers have executed.
void Fs::finish() {
  finished_event_.consume();
  std::vector<std::shared_ptr<Request>> finished;
  {
    const MutexLock lock(mutex_);
    finished.swap(finished_);
  }
  for (const auto& request : finished) std::move(request->chain).complete(request->written_bytes);
  for (const auto& queue : queues_)
    if (queue != nullptr) queue->interrupt();
  const bool stalled = in_flight_ >= kMaxInFlight;
  in_flight_ -= finished.size();
  if (stalled) serve_all();
}

}  // namespace wick::virtio
