#include "net/user.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>
#include <list>
#include <optional>
#include <unordered_map>

#include "base/bytes.h"
#include "base/log.h"
#include "net/frame_queue.h"
#include "net/neighbour.h"
#include "net/offload.h"
#include "net/slirp.h"
#include "net/user_filter.h"

namespace wick::net {

namespace {

// Of frames for the guest: what some sixteen connections send without waiting.
constexpr size_t kQueueBytes = 1 << 20;

in_addr ip4_address(uint32_t address) { return {.s_addr = htonl(address)}; }

in6_addr ip6_address(const char* text) {
  in6_addr address{};
  ::inet_pton(AF_INET6, text, &address);
  return address;
}

// Urgent data is read as all other (SO_OOBINLINE): no EPOLLPRI. poll(2) has the same bits.
int to_slirp(uint32_t events) {
  int flags = 0;
  if ((events & EPOLLIN) != 0) flags |= SLIRP_POLL_IN;
  if ((events & EPOLLOUT) != 0) flags |= SLIRP_POLL_OUT;
  if ((events & EPOLLERR) != 0) flags |= SLIRP_POLL_ERR;
  if ((events & EPOLLHUP) != 0) flags |= SLIRP_POLL_HUP;
  return flags;
}

uint32_t to_epoll(int flags) {
  uint32_t events = 0;  // EPOLLERR and EPOLLHUP come unasked
  if ((flags & SLIRP_POLL_IN) != 0) events |= EPOLLIN;
  if ((flags & SLIRP_POLL_OUT) != 0) events |= EPOLLOUT;
  return events;
}

// Of all instances, as libslirp keeps one clock for all of them. It starts above
// zero, which is "never" to libslirp.
int64_t clock_ns() {
  static const auto start = std::chrono::steady_clock::now();
  return std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count() + 1'000'000'000;
}
int64_t clock_ms() { return clock_ns() / 1'000'000; }

// libslirp works in rounds: it tells which sockets it would poll and for how long
// it would sleep (fill), then learns which are ready (poll). Here sockets are
// watched by the loop as told; what is ready, due or sent posts one round, which
// polls and fills.
class User final : public Backend {
 public:
  static Result<std::unique_ptr<User>> open(const UserNetwork& config);
  ~User() override;

  const std::string& name() const override { return name_; }
  Result<void> attach(EventLoop& loop, Events events) override;
  void detach() override;
  size_t receive(uint16_t pair, std::span<const iovec> buffers) override;
  void send(uint16_t pair, std::span<const iovec> packet) override;

 private:
  struct Timer {
    SlirpTimerCb callback;
    void* opaque;
    int64_t due_ms;  // or kNever
  };
  struct Socket {
    EventLoop::Watch watch;
    int wanted = 0;  // SLIRP_POLL_*, by the last fill
    int ready = 0;
    bool datagrams = false;
    bool listens = false;
    bool was_read = false;
  };
  static constexpr int64_t kNever = INT64_MAX;

  User(std::string name, SlirpLibrary& library) : name_(std::move(name)), library_(library) {}
  static User& self(void* opaque) { return *static_cast<User*>(opaque); }
  static const SlirpCb& callbacks();
  static Socket adopt(int fd);

  Result<void> forward(const HostForward& forward);
  void input(std::span<std::byte> frame);
  void answer_questions();
  void poll_nothing();
  void refresh_clock();
  void output(std::span<const std::byte> frame);
  void schedule_round();
  void round();
  void run_timers();
  int add_poll(int fd, int events);
  static int datagrams_now(int fd);
  int ready_events(int fd);
  void watch_sockets();
  void arm_timer(int64_t due_ms);
  bool congested() const { return queue_.used_bytes() > kQueueBytes / 2; }

  // Constant after construction.
  const std::string name_;
  SlirpLibrary& library_;
  Slirp* slirp_ = nullptr;

  // Owned by the loop's thread.
  EventLoop* loop_ = nullptr;
  Events events_;
  std::shared_ptr<User*> attached_;  // what is posted holds it weakly
  std::optional<EventLoop::Timer> alarm_;
  int64_t alarm_ms_ = kNever;
  bool round_posted_ = false;
  bool readable_posted_ = false;
  int64_t slirp_clock_ms_ = 0;
  std::list<Timer> timers_;
  std::unordered_map<int, Socket> sockets_;
  // A packet of the guest's, out of its reach.
  const std::unique_ptr<std::byte[]> packet_ =
      std::make_unique_for_overwrite<std::byte[]>(kMaxPacketBytes);
  uint64_t frames_out_ = 0;
  uint64_t sockets_closed_ = 0;
  FrameQueue queue_{kQueueBytes};
  UserFilter filter_;
  std::optional<Station> station_;               // the last that the guest sent from
  std::vector<std::vector<std::byte>> answers_;  // to questions of libslirp's
  RateLimit refusals_;
  RateLimit complaints_;
};

const SlirpCb& User::callbacks() {
  static const SlirpCb callbacks = [] {
    SlirpCb all{};
    all.send_packet = [](const void* data, size_t size, void* opaque) {
      self(opaque).output(as_bytes(data, size));
      return static_cast<ssize_t>(size);
    };
    all.guest_error = [](const char* message, void* opaque) {
      self(opaque).complaints_.warn("{}: libslirp: {}", self(opaque).name_, message);
    };
    all.clock_get_ns = [](void*) { return clock_ns(); };
    all.timer_new = [](SlirpTimerCb callback, void* timer_opaque, void* opaque) -> void* {
      return &self(opaque).timers_.emplace_back(Timer{callback, timer_opaque, kNever});
    };
    all.timer_free = [](void* timer, void* opaque) {
      self(opaque).timers_.remove_if([&](const Timer& one) { return &one == timer; });
    };
    all.timer_mod = [](void* timer, int64_t due_ms, void*) {
      static_cast<Timer*>(timer)->due_ms = due_ms;
    };
    // Comes when a socket is there, and right before it is closed.
    all.register_poll_fd = [](int fd, void* opaque) {
      if (fd >= 0) self(opaque).sockets_.insert_or_assign(fd, adopt(fd));
    };
    all.unregister_poll_fd = [](int fd, void* opaque) {
      self(opaque).sockets_.erase(fd);
      ++self(opaque).sockets_closed_;
    };
    all.notify = [](void* opaque) { self(opaque).schedule_round(); };
    return all;
  }();
  return callbacks;
}

Result<std::unique_ptr<User>> User::open(const UserNetwork& config) {
  SlirpLibrary* const library = TRY(load_slirp());
  std::unique_ptr<User> user(new User(config.name, *library));
  SlirpConfig slirp{};
  slirp.version = 1;  // all that is needed, and every libslirp takes it
  slirp.restricted = config.restricted ? 1 : 0;
  slirp.in_enabled = true;
  slirp.vnetwork = ip4_address(0x0a000200);
  slirp.vnetmask = ip4_address(0xffffff00);
  slirp.vhost = ip4_address(0x0a000202);
  slirp.vnameserver = ip4_address(0x0a000203);
  slirp.vdhcp_start = ip4_address(0x0a00020f);
  slirp.in6_enabled = true;
  slirp.vprefix_addr6 = ip6_address("fec0::");
  slirp.vprefix_len = 64;
  slirp.vhost6 = ip6_address("fec0::2");
  slirp.vnameserver6 = ip6_address("fec0::3");
  slirp.vhostname = config.host_name.c_str();  // copied
  {
    const std::lock_guard lock(library->mutex);
    user->slirp_ = library->create(&slirp, &callbacks(), user.get());
  }
  if (user->slirp_ == nullptr)
    return with_hint(fail("libslirp refuses its configuration"), "install libslirp0, 4.1 or later");
  for (const HostForward& forward : config.forwards) TRY(user->forward(forward));
  return user;
}

User::~User() {
  detach();
  if (slirp_ == nullptr) return;
  const std::lock_guard lock(library_.mutex);
  library_.destroy(slirp_);
}

Result<void> User::forward(const HostForward& forward) {
  in_addr host{};
  in_addr guest{};
  if (::inet_pton(AF_INET, forward.host_address.c_str(), &host) != 1 ||
      ::inet_pton(AF_INET, forward.guest_address.c_str(), &guest) != 1)
    return fail("hostfwd={}: not an IPv4 address", forward.text());
  const std::lock_guard lock(library_.mutex);
  errno = 0;
  if (library_.forward(slirp_, forward.udp ? 1 : 0, host, forward.host_port, guest,
                       forward.guest_port) == 0)
    return {};
  const int code = errno;
  const char* const hint = code == EADDRINUSE
                               ? "another program listens there, so choose another host port"
                           : code == EACCES ? "choose a host port from 1024 on, or run as root"
                           : code == EADDRNOTAVAIL ? "choose an address of this host, or 127.0.0.1"
                                                   : "choose another host address and port";
  return with_hint(fail_errno(code, "hostfwd={}: cannot listen", forward.text()), hint);
}

Result<void> User::attach(EventLoop& loop, Events events) {
  detach();
  alarm_ = TRY(loop.timer([this] {
    alarm_ms_ = kNever;
    round();
  }));
  loop_ = &loop;
  events_ = std::move(events);
  attached_ = std::make_shared<User*>(this);
  schedule_round();
  return {};
}

void User::detach() {
  attached_.reset();
  loop_ = nullptr;
  events_ = {};
  alarm_.reset();
  alarm_ms_ = kNever;
  round_posted_ = false;
  readable_posted_ = false;
  for (auto& [fd, socket] : sockets_) {
    socket.watch.reset();
    socket.ready = 0;
  }
  queue_.clear();
}

// --- the guest's side ---

size_t User::receive(uint16_t, std::span<const iovec> buffers) {
  if (queue_.empty()) return 0;
  const bool was_congested = congested();
  const PacketHeader header;
  const auto header_bytes = std::as_bytes(std::span(&header, 1));
  const size_t total = header_bytes.size() + queue_.front_bytes();
  size_t done = 0;
  for (const iovec& buffer : buffers) {
    std::span to(static_cast<std::byte*>(buffer.iov_base), std::min(buffer.iov_len, total - done));
    if (done < header_bytes.size()) {
      const size_t part = std::min(to.size(), header_bytes.size() - done);
      std::copy_n(header_bytes.begin() + static_cast<std::ptrdiff_t>(done), part, to.begin());
      done += part;
      to = to.subspan(part);
    }
    if (to.empty()) continue;
    queue_.read(done - header_bytes.size(), to);
    done += to.size();
  }
  queue_.pop();
  // There is room for what waits in sockets.
  if (was_congested && !congested()) schedule_round();
  return done;
}

void User::send(uint16_t, std::span<const iovec> packet) {
  if (loop_ == nullptr) return;
  size_t size = 0;
  for (const iovec& part : packet) {
    if (part.iov_len > kMaxPacketBytes - size) {
      refusals_.warn("{}: the guest sent a packet longer than {} bytes", name_, kMaxPacketBytes);
      return;
    }
    if (part.iov_len > 0) std::memcpy(packet_.get() + size, part.iov_base, part.iov_len);
    size += part.iov_len;
  }
  const std::lock_guard lock(library_.mutex);
  refresh_clock();
  // All checksums are made: libslirp checks those of IPv4, TCP and UDP.
  auto frames = FinishedFrames::of(std::span(packet_.get(), size));
  if (!frames)
    refusals_.warn("{}: the guest sent {}", name_, frames.error().message());
  else
    for (auto frame = frames->next(); !frame.empty(); frame = frames->next()) input(frame);
  schedule_round();
}

void User::input(std::span<std::byte> frame) {
  using Verdict = UserFilter::Verdict;
  switch (filter_.judge(frame, sockets_.size())) {
    case Verdict::kPass: {
      const uint64_t out_before = frames_out_;
      const uint64_t closed_before = sockets_closed_;
      std::ranges::copy(frame.subspan(6, 6), station_.emplace().begin());
      library_.input(slirp_, reinterpret_cast<const uint8_t*>(frame.data()),
                     static_cast<int>(frame.size()));
      filter_.passed(frame, frames_out_ != out_before, sockets_closed_ != closed_before);
      answer_questions();
      break;
    }
    case Verdict::kIgnore:
    case Verdict::kEarly:
      break;
    case Verdict::kTooManySockets:
      refusals_.warn("{}: the guest has {} connections; it gets no more until some end", name_,
                     sockets_.size());
      break;
    case Verdict::kFragment:
      refusals_.warn("{}: the guest sent a fragment of a datagram, which cannot be carried", name_);
      break;
    case Verdict::kTooManyAddresses:
      refusals_.warn("{}: the guest asks for too many addresses", name_);
      break;
  }
}

// libslirp asks the guest for the station of an address, and keeps what it has for it
// meanwhile, without a bound. So it gets an answer at once: the station that it is most
// likely to be. That of the guest, which hears the question too, puts it right.
void User::answer_questions() {
  while (!answers_.empty()) {
    const auto answer = std::move(answers_.back());
    answers_.pop_back();
    library_.input(slirp_, reinterpret_cast<const uint8_t*>(answer.data()),
                   static_cast<int>(answer.size()));
    // Each time it sends one frame of a connection.
    for (uint64_t before = ~frames_out_; before != frames_out_;) {
      before = frames_out_;
      poll_nothing();
    }
  }
}

// With an error to tell there are no sockets.
void User::poll_nothing() {
  library_.poll(
      slirp_, 1, [](int, void*) { return 0; }, this);
}

// libslirp looks at the clock when it polls, and nowhere else: a new socket would
// be taken for as old as the last round.
void User::refresh_clock() {
  const int64_t now_ms = clock_ms();
  if (now_ms == slirp_clock_ms_) return;
  slirp_clock_ms_ = now_ms;
  poll_nothing();
}

// From inside a call of libslirp's.
void User::output(std::span<const std::byte> frame) {
  ++frames_out_;
  filter_.came_back(frame);
  if (station_)
    if (auto answer = answer_as(*station_, frame); !answer.empty())
      answers_.push_back(std::move(answer));
  if (loop_ == nullptr || frame.size() > kMaxFrameBytes) return;
  const bool was_empty = queue_.empty();
  // A full queue drops, as a wire does.
  if (!queue_.push(frame) || !was_empty || std::exchange(readable_posted_, true)) return;
  loop_->post([attached = std::weak_ptr(attached_)] {
    const auto user = attached.lock();
    if (user == nullptr) return;
    (*user)->readable_posted_ = false;
    if (!(*user)->queue_.empty()) (*user)->events_.readable(0);
  });
}

// --- rounds ---

void User::schedule_round() {
  if (loop_ == nullptr || std::exchange(round_posted_, true)) return;
  loop_->post([attached = std::weak_ptr(attached_)] {
    const auto user = attached.lock();
    if (user != nullptr) (*user)->round();
  });
}

void User::round() {
  round_posted_ = false;
  int64_t due_ms = kNever;
  {
    const std::lock_guard lock(library_.mutex);
    run_timers();
    slirp_clock_ms_ = clock_ms();
    // Nothing is read from sockets while the guest takes no frames.
    library_.poll(
        slirp_, congested() ? 1 : 0,
        [](int fd, void* opaque) { return self(opaque).ready_events(fd); }, this);
    answer_questions();
    for (auto& [fd, socket] : sockets_) socket.wanted = socket.ready = 0;
    constexpr uint32_t kIdle_ms = 1000;
    uint32_t timeout_ms = kIdle_ms;
    library_.fill(
        slirp_, &timeout_ms,
        [](int fd, int events, void* opaque) { return self(opaque).add_poll(fd, events); }, this);
    // What it is not in a hurry for can wait for the next packet.
    if (timeout_ms < kIdle_ms) due_ms = slirp_clock_ms_ + timeout_ms;
    for (const Timer& timer : timers_) due_ms = std::min(due_ms, timer.due_ms);
  }
  watch_sockets();
  arm_timer(due_ms);
}

void User::run_timers() {
  const int64_t now_ms = clock_ms();
  for (Timer& timer : timers_) {
    if (timer.due_ms > now_ms) continue;
    timer.due_ms = kNever;
    timer.callback(timer.opaque);  // arms it again
  }
}

// libslirp sends and receives datagrams with calls that wait.
User::Socket User::adopt(int fd) {
  (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  const auto option = [fd](int name) {
    int value = 0;
    socklen_t size = sizeof(value);
    (void)::getsockopt(fd, SOL_SOCKET, name, &value, &size);
    return value;
  };
  Socket socket;
  socket.datagrams = option(SO_TYPE) != SOCK_STREAM;
  socket.listens = option(SO_ACCEPTCONN) != 0;
  return socket;
}

// libslirp's index of a socket is the socket itself.
int User::add_poll(int fd, int events) {
  auto place = sockets_.find(fd);
  // One that was never registered is a forward's.
  if (place == sockets_.end()) place = sockets_.emplace(fd, adopt(fd)).first;
  Socket& socket = place->second;
  socket.wanted = events;
  if ((events & SLIRP_POLL_IN) != 0) socket.was_read = true;
  return fd;
}

// libslirp takes what it is told for true, and may crash (4.7) when nothing is there: an
// event may be older than the last round, or that of a datagram whose checksum is wrong,
// which only reading finds out.
int User::datagrams_now(int fd) {
  pollfd now{.fd = fd, .events = POLLIN, .revents = 0};
  if (::poll(&now, 1, 0) <= 0) return 0;
  const int ready = to_slirp(static_cast<uint32_t>(now.revents));
  char first = 0;
  return ready != SLIRP_POLL_IN || ::recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ? ready : 0;
}

int User::ready_events(int fd) {
  const auto place = sockets_.find(fd);
  if (place == sockets_.end()) return 0;
  Socket& socket = place->second;
  int ready = std::exchange(socket.ready, 0);
  if (ready != 0 && socket.datagrams) ready = datagrams_now(fd);
  if ((socket.wanted & SLIRP_POLL_IN) != 0 || !socket.was_read) return ready;
  // It has something to send, and perhaps no room to read: then an error, which is
  // read, would be an assertion that fails (soread). Sending finds the error too.
  return ready != 0 ? SLIRP_POLL_OUT : 0;
}

void User::watch_sockets() {
  const bool full = sockets_.size() >= UserFilter::kMostSockets;
  const bool paused = congested();
  for (auto& [number, socket] : sockets_) {
    // Without a watch, since a hang-up cannot be masked and would come again and again.
    if (socket.wanted == 0 || paused || (full && socket.listens)) {
      socket.watch.reset();
      continue;
    }
    const uint32_t events = to_epoll(socket.wanted);
    if (socket.watch.active()) {
      socket.watch.set_events(events);
      continue;
    }
    auto watch = loop_->watch(number, events, [this, fd = number](uint32_t seen) {
      const auto place = sockets_.find(fd);
      if (place == sockets_.end()) return;
      place->second.ready |= to_slirp(seen);
      schedule_round();
    });
    if (watch)
      socket.watch = *std::move(watch);
    else
      complaints_.warn("{}: {}", name_, watch.error().message());
  }
}

// An alarm that is earlier stays: its round finds nothing to do and arms another.
void User::arm_timer(int64_t due_ms) {
  if (due_ms >= alarm_ms_) return;
  alarm_ms_ = due_ms;
  alarm_->arm(std::chrono::milliseconds(std::max<int64_t>(1, due_ms - clock_ms())));
}

}  // namespace

std::string HostForward::text() const {
  return fmt::format("{}:{}:{}-{}:{}", udp ? "udp" : "tcp", host_address, host_port, guest_address,
                     guest_port);
}

Result<std::unique_ptr<Backend>> open_user(const UserNetwork& config) {
  return std::unique_ptr<Backend>(TRY(User::open(config)));
}

}  // namespace wick::net
