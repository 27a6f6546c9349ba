#include "virtio/rng.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cstring>

namespace wick::virtio {

namespace {

constexpr size_t kTurnBytes = 64 << 10;  // getrandom(2) needs less than a millisecond for this
constexpr std::chrono::milliseconds kRetryDelay{20};

}  // namespace

Result<std::unique_ptr<Rng>> Rng::create(EventLoop& loop, const std::string& path) {
  std::unique_ptr<Rng> rng(new Rng(loop, path));
  if (!path.empty()) {
    rng->file_ = Fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat status {};
    if (!rng->file_.valid() || ::fstat(rng->file_.get(), &status) != 0)
      return with_hint(fail_errno(errno, "{}: cannot open for entropy", path),
                       "check --rng and the file's permissions");
    if (S_ISDIR(status.st_mode)) return fail_errno(EISDIR, "{}: cannot read entropy", path);
  }
  // The timer comes last: if a later step failed, it could not be removed here, because the
  // loop may run already.
  rng->retry_ = TRY(loop.timer([self = rng.get()] { self->serve(); }));
  return rng;
}

void Rng::activate(uint64_t, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  if (!queues.empty()) start_queue(std::move(queues.front()), notifier);
}

void Rng::start_queue(ActiveQueue queue, DriverNotifier& notifier) {
  loop_.call([&] {
    queue_.emplace(loop_, std::move(queue), notifier, name_, warnings_, [this] { serve(); });
    serve();
  });
}

void Rng::reset() {
  loop_.call([this] { queue_.reset(); });
}

void Rng::serve() {
  if (!queue_) return;
  queue_->serve(kTurnBytes,
                [this](auto& request, size_t& budget) { return fill(request, budget); });
}

// 5.4.6.2: the device returns at least one byte, and may return fewer than fit.
bool Rng::fill(LoopQueue::Request& request, size_t& budget) {
  for (;;) {
    const auto room = request.writable.front(budget);
    if (room.empty()) return true;
    const size_t drawn = draw(room);
    request.writable.advance(drawn);
    request.written_bytes += static_cast<uint32_t>(drawn);
    spend(budget, drawn);
    if (drawn < room.size()) return request.written_bytes > 0;
  }
}

// Fills `room` with random bytes and returns their number; 0 if none are available now. The timer
// then calls serve() again.
size_t Rng::draw(std::span<std::byte> room) {
  ssize_t drawn = 0;
  if (file_.valid()) {
    drawn = ::read(file_.get(), room.data(), room.size());
    if (drawn == 0 || (drawn < 0 && errno != EAGAIN && errno != EINTR)) {
      spdlog::warn("{}: {}; the guest's entropy now comes from getrandom(2)", path_,
                   drawn == 0 ? "no more entropy" : std::strerror(errno));
      file_.close();
    }
  }
  if (!file_.valid()) drawn = ::getrandom(room.data(), room.size(), GRND_NONBLOCK);
  if (drawn > 0) return static_cast<size_t>(drawn);
  retry_.arm(kRetryDelay);
  return 0;
}

}  // namespace wick::virtio
