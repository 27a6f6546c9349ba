#include "net/user.h"

#include <arpa/inet.h>

#include <chrono>
#include <cstring>
#include <list>
#include <optional>

#include "base/bytes.h"
#include "base/log.h"
#include "net/frame_queue.h"
#include "net/neighbour.h"
#include "net/offload.h"
#include "net/slirp.h"
#include "net/slirp_sockets.h"
#include "net/user_filter.h"

namespace wick::net {

namespace {

// The size of the queue of frames to the guest: about what sixteen connections send without
// waiting.
constexpr size_t kQueueBytes = 1 << 20;

in_addr ip4_address(uint32_t address) { return {.s_addr = htonl(address)}; }

in6_addr ip6_address(const char* text) {
  in6_addr address{};
  ::inet_pton(AF_INET6, text, &address);
  return address;
}

// Returns a monotonic time. All instances must use the same time, because libslirp keeps one clock
// for all. The time starts above zero, because zero means "never" in libslirp.
int64_t clock_ns() {
  static const auto start = std::chrono::steady_clock::now();
  return std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count() + 1'000'000'000;
}
int64_t clock_ms() { return clock_ns() / 1'000'000; }

// libslirp works in rounds (net/slirp_sockets.h). A ready socket, an expired timer or a packet
// from the guest schedules one round, which calls slirp_pollfds_poll() and then
// slirp_pollfds_fill().
class User final : public Backend {
 public:
  static Result<std::unique_ptr<User>> open(const UserNetwork& config);
  ~User() override;

  const std::string& name() const override { return name_; }
  Result<void> attach(EventLoop& loop, Events events) override;
  void detach() override;
  size_t receive(uint16_t pair, std::span<const iovec> buffers) override;
  void send(uint16_t pair, std::span<const iovec> packet) override;
  Result<void> forward(const HostForward& wanted, bool add) override;
  std::string connections() override;

 private:
  struct Timer {
    SlirpTimerCb callback;
    void* opaque;
    int64_t due_ms;  // the time at which it expires, or kNever
  };
  static constexpr int64_t kNever = INT64_MAX;

  User(std::string name, SlirpLibrary& library) : name_(std::move(name)), library_(library) {}
  static User& self(void* opaque) { return *static_cast<User*>(opaque); }
  static const SlirpCb& callbacks();

  void input(std::span<std::byte> frame) REQUIRES(library_.mutex);
  void send_neighbour_replies() REQUIRES(library_.mutex);
  void poll_nothing() REQUIRES(library_.mutex);
  void refresh_clock() REQUIRES(library_.mutex);
  void output(std::span<const std::byte> frame);
  void schedule_round();
  void round();
  void run_timers() REQUIRES(library_.mutex);
  void arm_timer(int64_t due_ms);
  bool congested() const { return queue_.used_bytes() > kQueueBytes / 2; }

  // Constant after construction.
  const std::string name_;
  SlirpLibrary& library_;
  Slirp* slirp_ = nullptr;

  // Used only on the loop's thread.
  EventLoop* loop_ = nullptr;
  Events events_;
  std::shared_ptr<User*> attached_;  // expires at detach(); posted functions hold a weak_ptr to it
  std::optional<EventLoop::Timer> alarm_;
  int64_t alarm_ms_ = kNever;
  bool round_posted_ = false;
  bool readable_posted_ = false;
  int64_t slirp_clock_ms_ = 0;
  std::list<Timer> timers_;
  SlirpSockets sockets_{name_, [this] { schedule_round(); }};
  // A private copy of a packet from the guest.
  const std::unique_ptr<std::byte[]> packet_ =
      std::make_unique_for_overwrite<std::byte[]>(kMaxPacketBytes);
  uint64_t frames_out_ = 0;
  uint64_t sockets_closed_ = 0;
  FrameQueue queue_{kQueueBytes};
  UserFilter filter_;
  std::optional<MacAddress> station_;                      // the source of the guest's last frame
  std::vector<std::vector<std::byte>> neighbour_replies_;  // replies that libslirp must still get
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
    // libslirp calls this when it has created a socket, and unregister_poll_fd right before it
    // closes one.
    all.register_poll_fd = [](int fd, void* opaque) {
      if (fd >= 0) self(opaque).sockets_.add(fd);
    };
    all.unregister_poll_fd = [](int fd, void* opaque) {
      self(opaque).sockets_.remove(fd);
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
  slirp.version = 1;  // has all fields that wick needs; every libslirp accepts this version
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
  slirp.vhostname = config.host_name.c_str();  // libslirp copies the name
  {
    const MutexLock lock(library->mutex);
    user->slirp_ = library->create(&slirp, &callbacks(), user.get());
  }
  if (user->slirp_ == nullptr)
    return with_hint(fail("libslirp rejected its configuration"),
                     "install libslirp0, 4.1 or later");
  for (const HostForward& forward : config.forwards) TRY(user->forward(forward, true));
  return user;
}

User::~User() {
  detach();
  if (slirp_ == nullptr) return;
  const MutexLock lock(library_.mutex);
  library_.destroy(slirp_);
}

Result<void> User::forward(const HostForward& wanted, bool add) {
  in_addr host{};
  in_addr guest{};
  if (::inet_pton(AF_INET, wanted.host_address.c_str(), &host) != 1 ||
      ::inet_pton(AF_INET, wanted.guest_address.c_str(), &guest) != 1)
    return fail("hostfwd={}: not an IPv4 address", wanted.text());
  const MutexLock lock(library_.mutex);
  errno = 0;
  if (!add) {
    if (library_.remove_forward(slirp_, wanted.udp ? 1 : 0, host, wanted.host_port) == 0) return {};
    return fail("hostfwd={}: there is no such forward", wanted.text());
  }
  if (library_.forward(slirp_, wanted.udp ? 1 : 0, host, wanted.host_port, guest,
                       wanted.guest_port) == 0)
    return {};
  const int code = errno;
  const char* const hint = code == EADDRINUSE
                               ? "another program listens there, so choose another host port"
                           : code == EACCES ? "choose a host port from 1024 on, or run as root"
                           : code == EADDRNOTAVAIL ? "choose an address of this host, or 127.0.0.1"
                                                   : "choose another host address and port";
  return with_hint(fail_errno(code, "hostfwd={}: cannot listen", wanted.text()), hint);
}

std::string User::connections() {
  const MutexLock lock(library_.mutex);
  const std::unique_ptr<char, decltype(&std::free)> text(library_.connections(slirp_), &std::free);
  return text ? text.get() : "";
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
  sockets_.detach();
  queue_.clear();
}

// --- guest side ---

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
  // The queue has room again, so a round must read the sockets.
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
  const MutexLock lock(library_.mutex);
  refresh_clock();
  // The Segmenter fills in the checksums, which libslirp verifies for IPv4, TCP and UDP.
  auto frames = Segmenter::create(std::span(packet_.get(), size));
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
      station_ = load_le<MacAddress>(frame.subspan(6));
      library_.input(slirp_, reinterpret_cast<const uint8_t*>(frame.data()),
                     static_cast<int>(frame.size()));
      filter_.on_frame_passed(frame, frames_out_ != out_before, sockets_closed_ != closed_before);
      send_neighbour_replies();
      break;
    }
    case Verdict::kIgnore:
    case Verdict::kEarly:
      break;
    case Verdict::kTooManySockets:
      refusals_.warn("{}: the guest has {} connections and can open no more until some end", name_,
                     sockets_.size());
      break;
    case Verdict::kFragment:
      refusals_.warn("{}: the guest sent an IP fragment, which user networks do not support",
                     name_);
      break;
    case Verdict::kTooManyAddresses:
      refusals_.warn("{}: the guest requests too many DHCP addresses", name_);
      break;
  }
}

// Sends libslirp the waiting replies. While libslirp resolves a guest address (ARP, neighbour
// discovery), it queues packets for that address without a bound. So each request gets an immediate
// reply with the most likely station. The request also goes to the guest, whose own reply corrects
// a wrong guess.
void User::send_neighbour_replies() {
  while (!neighbour_replies_.empty()) {
    const auto reply = std::move(neighbour_replies_.back());
    neighbour_replies_.pop_back();
    library_.input(slirp_, reinterpret_cast<const uint8_t*>(reply.data()),
                   static_cast<int>(reply.size()));
    // Each poll sends one of the queued frames of a connection.
    for (uint64_t before = ~frames_out_; before != frames_out_;) {
      before = frames_out_;
      poll_nothing();
    }
  }
}

// Calls slirp_pollfds_poll() with select_error set: libslirp handles its timers but no sockets.
void User::poll_nothing() {
  library_.poll(
      slirp_, 1, [](int, void*) { return 0; }, this);
}

// Makes libslirp read the clock, which it does only in slirp_pollfds_poll(). Without this, a new
// socket would get the time of the last round.
void User::refresh_clock() {
  const int64_t now_ms = clock_ms();
  if (now_ms == slirp_clock_ms_) return;
  slirp_clock_ms_ = now_ms;
  poll_nothing();
}

// Takes a frame from libslirp to the guest. This runs inside a call of libslirp, so a neighbour
// reply must wait until that call has returned.
void User::output(std::span<const std::byte> frame) {
  ++frames_out_;
  filter_.on_frame_to_guest(frame);
  if (station_)
    if (auto reply = neighbour_reply(*station_, frame); !reply.empty())
      neighbour_replies_.push_back(std::move(reply));
  if (loop_ == nullptr || frame.size() > kMaxFrameBytes) return;
  const bool was_empty = queue_.empty();
  // A full queue drops the frame.
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
    const MutexLock lock(library_.mutex);
    run_timers();
    slirp_clock_ms_ = clock_ms();
    // While the queue to the guest is congested, no sockets are read.
    library_.poll(
        slirp_, congested() ? 1 : 0,
        [](int fd, void* opaque) { return self(opaque).sockets_.take_events(fd); }, this);
    send_neighbour_replies();
    sockets_.clear_requests();
    constexpr uint32_t kIdle_ms = 1000;
    uint32_t timeout_ms = kIdle_ms;
    library_.fill(
        slirp_, &timeout_ms,
        [](int fd, int events, void* opaque) {
          self(opaque).sockets_.request_events(fd, events);
          return fd;  // the number by which slirp_pollfds_poll() will ask for the socket
        },
        this);
    // An unchanged timeout means that libslirp has nothing to do before the next packet.
    if (timeout_ms < kIdle_ms) due_ms = slirp_clock_ms_ + timeout_ms;
    for (const Timer& timer : timers_) due_ms = std::min(due_ms, timer.due_ms);
  }
  sockets_.watch(*loop_, congested());
  arm_timer(due_ms);
}

void User::run_timers() {
  const int64_t now_ms = clock_ms();
  for (Timer& timer : timers_) {
    if (timer.due_ms > now_ms) continue;
    timer.due_ms = kNever;
    timer.callback(timer.opaque);  // may arm the timer again
  }
}

// Arms the timer for the next round. If the timer is armed for an earlier time, it stays so: the
// round at that time finds nothing to do and arms the timer again.
void User::arm_timer(int64_t due_ms) {
  if (due_ms >= alarm_ms_) return;
  alarm_ms_ = due_ms;
  alarm_->arm(std::chrono::milliseconds(std::max<int64_t>(1, due_ms - clock_ms())));
}

}  // namespace

Result<std::unique_ptr<Backend>> open_user(const UserNetwork& config) {
  return std::unique_ptr<Backend>(TRY(User::open(config)));
}

}  // namespace wick::net
