#include "virtio/input.h"

#include <linux/input.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/buffers.h"

namespace wick::virtio {

namespace {

// The indices of the queues (5.8.2).
enum Queue : uint16_t { kEventQueue, kStatusQueue };

constexpr size_t kTurnBytes = 16 << 10;
constexpr uint16_t kVendor = 0x1af4;  // virtio's PCI vendor ID
// The range from kFirstKey to kLastKey contains the codes of all keys of a PC's keyboard, media
// keys included, and some codes that no key has.
constexpr uint16_t kFirstKey = KEY_ESC;
constexpr uint16_t kLastKey = KEY_MICMUTE;
constexpr uint16_t kButtons[] = {BTN_LEFT, BTN_RIGHT, BTN_MIDDLE};
constexpr uint16_t kAxes[] = {ABS_X, ABS_Y};
constexpr uint16_t kLeds[] = {LED_NUML, LED_CAPSL, LED_SCROLLL};

static_assert(sizeof(virtio_input_event) == 8);
static_assert(sizeof(virtio_input_config) == 136);

void set_bit(virtio_input_config& config, unsigned bit) {
  config.u.bitmap[bit / 8] |= static_cast<uint8_t>(1u << bit % 8);
  config.size = std::max(config.size, static_cast<uint8_t>(bit / 8 + 1));
}

void set_text(virtio_input_config& config, std::string_view text) {
  std::ranges::copy(text, config.u.string);
  config.size = static_cast<uint8_t>(text.size());
}

uint8_t led_of(uint16_t code) {
  switch (code) {
    case LED_SCROLLL:
      return devices::kScrollLock;
    case LED_NUML:
      return devices::kNumLock;
    case LED_CAPSL:
      return devices::kCapsLock;
    default:
      return 0;
  }
}

}  // namespace

struct Input::EventQueue {
  EventQueue(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, const std::string& name,
             RateLimit& warnings, std::function<void()> on_kick)
      : ring(loop, std::move(queue), notifier, name, warnings, std::move(on_kick)) {}

  KickedRing ring;            // before `buffers`: a chain returns to its ring when destroyed
  std::deque<Chain> buffers;  // each for one event; at most as many as the ring has entries
};

Result<std::unique_ptr<Input>> Input::create(EventLoop& loop, Kind kind, OnLeds on_leds) {
  auto wake = TRY(EventFd::create());
  std::unique_ptr<Input> input(new Input(loop, kind, std::move(on_leds), std::move(wake)));
  // The watch comes last: if a later step failed, it could not be removed here, because the
  // loop may run already.
  input->wake_watch_ = TRY(loop.watch(input->wake_.fd(), EPOLLIN | EPOLLET,
                                      [self = input.get()](uint32_t) { self->send_events(); }));
  return input;
}

Input::Input(EventLoop& loop, Kind kind, OnLeds on_leds, EventFd wake)
    : loop_(loop),
      kind_(kind),
      on_leds_(std::move(on_leds)),
      name_(kind == Kind::kKeyboard ? "keyboard" : "tablet"),
      wake_(std::move(wake)) {}

Input::~Input() = default;

// -- 5.8.5: the configuration space --

void Input::read_config(uint64_t offset, std::span<std::byte> data) {
  copy_config(config(), offset, data);
}

// Only `select` and `subsel`, the first two bytes, can be written.
void Input::write_config(uint64_t offset, std::span<const std::byte> data) {
  for (size_t i = 0; i < data.size() && offset + i < 2; ++i)
    (offset + i == 0 ? select_ : subsel_) = std::to_integer<uint8_t>(data[i]);
}

// Returns the structure that `select` and `subsel` choose. Its size is 0 for everything that the
// device does not have, for example properties (VIRTIO_INPUT_CFG_PROP_BITS).
virtio_input_config Input::config() const {
  virtio_input_config config{};
  config.select = select_;
  config.subsel = subsel_;
  const bool keyboard = kind_ == Kind::kKeyboard;
  switch (select_) {
    case VIRTIO_INPUT_CFG_ID_NAME:
      if (subsel_ == 0) set_text(config, keyboard ? "wick virtio keyboard" : "wick virtio tablet");
      break;
    case VIRTIO_INPUT_CFG_ID_SERIAL:
      if (subsel_ == 0) set_text(config, name_);
      break;
    case VIRTIO_INPUT_CFG_ID_DEVIDS:
      if (subsel_ != 0) break;
      config.u.ids = {.bustype = BUS_VIRTUAL,
                      .vendor = kVendor,
                      .product = static_cast<uint16_t>(keyboard ? 1 : 2),
                      .version = 1};
      config.size = sizeof(config.u.ids);
      break;
    case VIRTIO_INPUT_CFG_EV_BITS:
      if (subsel_ == EV_KEY) {
        if (keyboard)
          for (unsigned key = kFirstKey; key <= kLastKey; ++key) set_bit(config, key);
        else
          for (const uint16_t button : kButtons) set_bit(config, button);
      } else if (subsel_ == EV_REP && keyboard) {
        config.size = 1;  // supports EV_REP, but no bits: the driver chooses delay and period
      } else if (subsel_ == EV_LED && keyboard) {
        for (const uint16_t led : kLeds) set_bit(config, led);
      } else if (subsel_ == EV_REL && !keyboard) {
        set_bit(config, REL_WHEEL);
      } else if (subsel_ == EV_ABS && !keyboard) {
        for (const uint16_t axis : kAxes) set_bit(config, axis);
      }
      break;
    case VIRTIO_INPUT_CFG_ABS_INFO:
      if (keyboard || (subsel_ != ABS_X && subsel_ != ABS_Y)) break;
      config.u.abs = {.min = 0, .max = kMaxPosition, .fuzz = 0, .flat = 0, .res = 0};
      config.size = sizeof(config.u.abs);
      break;
    default:
      break;
  }
  return config;
}

// -- Calls of the transport, and the queues --

void Input::activate(uint64_t, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  for (ActiveQueue& queue : queues) start_queue(std::move(queue), notifier);
}

void Input::start_queue(ActiveQueue queue, DriverNotifier& notifier) {
  loop_.call([&] {
    if (queue.index == kEventQueue) {
      events_ = std::make_unique<EventQueue>(loop_, std::move(queue), notifier, name_, warnings_,
                                             [this] { send_events(); });
      send_events();
    } else {
      status_.emplace(loop_, std::move(queue), notifier, name_, warnings_,
                      [this] { serve_status(); });
      serve_status();
    }
  });
}

void Input::stop_queue(uint16_t index) {
  loop_.call([&] {
    if (index == kEventQueue)
      forget();
    else
      status_.reset();
  });
}

void Input::reset() {
  loop_.call([this] {
    forget();
    status_.reset();
    if (std::exchange(leds_, 0) != 0 && on_leds_) on_leds_(0);
  });
  select_ = subsel_ = 0;
}

// Removes the event queue and forgets all keys and waiting events, because the next driver starts
// without held keys.
void Input::forget() {
  events_.reset();
  const MutexLock lock(mutex_);
  active_ = false;
  waiting_.clear();
  down_.reset();
  owed_.reset();
}

void Input::collect_buffers() {
  events_->ring.serve([] { return true; },
                      [this](Chain chain) {
                        const size_t room = total_bytes(chain.writable());
                        if (room >= sizeof(virtio_input_event))
                          events_->buffers.push_back(std::move(chain));
                        else
                          warnings_.warn("{}: the driver gave a buffer of {} bytes for an event",
                                         name_, room);
                      });
  if (!events_->ring.active())
    active_ = false;
  else if (!events_->buffers.empty())
    active_ = true;
}

// Takes the first group from the list, if `buffers` suffices for all its events.
std::optional<Input::Group> Input::take_group(size_t buffers) {
  const MutexLock lock(mutex_);
  if (waiting_.empty() || waiting_.front().size > buffers) return std::nullopt;
  const Group group = waiting_.front();
  waiting_.pop_front();
  // The list now has room for releases that found it full.
  for (size_t code = 0; code < owed_.size() && owed_.any(); ++code) {
    if (waiting_.size() == kMaxWaitingGroups) break;
    if (owed_.test(code)) release(static_cast<uint16_t>(code));
  }
  return group;
}

void Input::hold(bool held) {
  held_ = held;
  if (!held) send_events();
}

void Input::send_events() {
  if (events_ == nullptr || held_) return;
  collect_buffers();
  // The loop ends, because each group uses up buffers, and there are at most as many buffers as the
  // ring has entries.
  while (const auto group = take_group(events_->buffers.size())) {
    for (size_t i = 0; i < group->size; ++i) {
      const Event& event = group->events[i];
      const virtio_input_event bytes{
          .type = event.type, .code = event.code, .value = static_cast<uint32_t>(event.value)};
      Chain chain = std::move(events_->buffers.front());
      events_->buffers.pop_front();
      const size_t written = BufferCursor(chain.writable()).write(as_bytes(&bytes, sizeof(bytes)));
      std::move(chain).complete(static_cast<uint32_t>(written));
    }
  }
  events_->ring.interrupt();
}

// Handles status events: the driver changes the lights of the keyboard (5.8.6.1).
void Input::serve_status() {
  const uint8_t before = leds_;
  status_->serve(kTurnBytes, [this](LoopQueue::Request& request, size_t& budget) {
    virtio_input_event event{};
    std::array<std::byte, sizeof(event)> bytes;
    if (request.readable.read(bytes) == sizeof(event)) {
      std::memcpy(&event, bytes.data(), sizeof(event));
      const uint8_t led = event.type == EV_LED ? led_of(event.code) : uint8_t{0};
      leds_ = static_cast<uint8_t>(event.value != 0 ? leds_ | led : leds_ & ~led);
    } else {
      warnings_.warn("{}: the driver sent a status event that is too short", name_);
    }
    spend(budget, sizeof(event));
    return true;
  });
  if (leds_ != before && on_leds_) on_leds_(leds_);
}

// -- Input from the host --

bool Input::has_key(uint16_t code) const {
  if (kind_ == Kind::kKeyboard) return code >= kFirstKey && code <= kLastKey;
  return std::ranges::find(kButtons, code) != std::end(kButtons);
}

void Input::key(uint16_t code, bool down) {
  if (!has_key(code)) return;
  {
    const MutexLock lock(mutex_);
    if (!active_) return;
    if (down)
      press(code);
    else
      release(code);
  }
  wake_.signal();
}

void Input::press(uint16_t code) {
  // If the last release found the list full, the release is dropped now: for the driver the key is
  // still held.
  owed_.reset(code);
  if (!down_.test(code) && push({{EV_KEY, code, 1}, {EV_SYN, SYN_REPORT, 0}})) down_.set(code);
}

void Input::release(uint16_t code) {
  if (!down_.test(code)) return;
  const bool pushed = push({{EV_KEY, code, 0}, {EV_SYN, SYN_REPORT, 0}});
  down_.set(code, !pushed);
  owed_.set(code, !pushed);
}

void Input::move_to(uint16_t x, uint16_t y) {
  if (kind_ != Kind::kTablet) return;
  {
    const MutexLock lock(mutex_);
    if (!active_) return;
    const Event to_x{EV_ABS, ABS_X, std::min(x, kMaxPosition)};
    const Event to_y{EV_ABS, ABS_Y, std::min(y, kMaxPosition)};
    if (!waiting_.empty() && waiting_.back().events[0].type == EV_ABS) {
      waiting_.back().events[0] = to_x;
      waiting_.back().events[1] = to_y;
    } else {
      push({to_x, to_y, {EV_SYN, SYN_REPORT, 0}});
    }
  }
  wake_.signal();
}

void Input::scroll(int steps) {
  constexpr int kMaxSteps = 1000;
  if (kind_ != Kind::kTablet || steps == 0) return;
  {
    const MutexLock lock(mutex_);
    if (!active_) return;
    steps = std::clamp(steps, -kMaxSteps, kMaxSteps);
    if (!waiting_.empty() && waiting_.back().events[0].type == EV_REL) {
      int32_t& sum = waiting_.back().events[0].value;
      sum = std::clamp(sum + steps, -kMaxSteps, kMaxSteps);
    } else {
      push({{EV_REL, REL_WHEEL, steps}, {EV_SYN, SYN_REPORT, 0}});
    }
  }
  wake_.signal();
}

bool Input::push(std::initializer_list<Event> events) {
  if (waiting_.size() >= kMaxWaitingGroups) return false;
  Group& group = waiting_.emplace_back();
  group.size = events.size();
  std::ranges::copy(events, group.events.begin());
  return true;
}

}  // namespace wick::virtio
