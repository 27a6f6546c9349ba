#include "virtio/console.h"

#include <array>
#include <cstring>
#include <utility>

#include "base/bytes.h"

namespace wick::virtio {

namespace {

constexpr uint16_t kQueueSize = 64;
constexpr size_t kTurnBytes = 64 << 10;
constexpr size_t kChunkBytes = 4096;

// The control queues (5.3.2).
constexpr uint16_t kControlReceive = 2;
constexpr uint16_t kControlTransmit = 3;
constexpr uint16_t receive_queue(size_t port) {
  return static_cast<uint16_t>(port == 0 ? 0 : 2 + 2 * port);
}
constexpr size_t port_of_queue(uint16_t queue) { return queue < 2 ? 0 : queue / 2 - 1; }

// The size that the device reports until a terminal has told its size. With 0 columns, programs in
// the guest could not use the size.
constexpr console::Size kDefaultSize{.columns = 80, .rows = 24};

// The events of a port that the device has not sent to the driver yet. They are sent in
// this order (5.3.6.2).
enum PendingEvent : uint8_t {
  kAdded = 1 << 0,
  kIsConsole = 1 << 1,
  kName = 1 << 2,
  kOpened = 1 << 3,
  kSize = 1 << 4,
};

}  // namespace

struct Console::Message {
  virtio_console_control control;
  std::vector<std::byte> payload = {};
};
static_assert(sizeof(virtio_console_control) == 8);

// A port of the device; its back end sends it the host's input.
class Console::Port final : public console::Guest {
 public:
  Port(Console& console, size_t index, PortConfig config)
      : console_(console), index_(index), backend_(config.backend), name_(std::move(config.name)) {}

  size_t input(std::span<const std::byte> bytes) override {
    size_t taken = 0;
    LoopQueue* const queue = console_.queues_[receive_queue(index_)].get();
    if (queue != nullptr && (open_ || !console_.multiport_) && !bytes.empty()) {
      // The budget is one more than needed: serve() signals the kick when the budget is used up,
      // which is not wanted here. A buffer that was popped and not filled is kept by the queue for
      // the next input.
      queue->serve(bytes.size() + 1, [&](LoopQueue::Request& request, size_t& budget) {
        if (taken == bytes.size()) return false;
        const size_t copied = request.writable.write(bytes.subspan(taken));
        taken += copied;
        request.written_bytes = static_cast<uint32_t>(copied);
        spend(budget, copied);
        return true;
      });
    }
    refused_ = taken < bytes.size();
    return taken;
  }
  void send_break() override {}  // a virtio console cannot receive a BREAK
  void resized(console::Size size) override {
    if (size.columns == 0 || size.rows == 0) return;  // 0: the terminal does not know its size
    size_ = size;
    if (index_ == 0) console_.size_ = size;
    if (console_.multiport_) {
      if (ready_ && name_.empty()) send_events(kSize);
    } else if (index_ == 0 && console_.reports_size_) {
      console_.notifier_->config_changed();
    }
  }

  // Asks the back end to send the input that input() refused, because there are buffers now.
  void want_input() {
    if (std::exchange(refused_, false)) backend_.input_wanted();
  }
  void transmit(LoopQueue& queue) {
    queue.serve(kTurnBytes, [this](LoopQueue::Request& request, size_t& budget) {
      std::array<std::byte, kChunkBytes> chunk;
      while (budget > 0) {
        const size_t size =
            request.readable.read(std::span(chunk).first(std::min(budget, kChunkBytes)));
        if (size == 0) return true;
        backend_.write(std::span(chunk).first(size));
        spend(budget, size);
      }
      return false;
    });
  }

  void connect() { backend_.connect(*this); }
  void reset() {
    ready_ = false;
    open_ = false;
    pending_events_ = 0;
  }

  // The next three functions handle control messages of the driver.
  void add() { send_events(kAdded); }
  void set_ready() {
    ready_ = true;
    send_events(static_cast<uint8_t>((name_.empty() ? kIsConsole : kName) | kOpened |
                                     (size_ && name_.empty() ? kSize : 0)));
  }
  void set_open(bool open) {
    open_ = open;
    if (open) want_input();
  }

  std::optional<Message> next_message() {
    if (pending_events_ == 0) return std::nullopt;
    const auto event = static_cast<uint8_t>(pending_events_ & -pending_events_);
    pending_events_ ^= event;
    Message message{.control = {.id = static_cast<uint32_t>(index_), .event = 0, .value = 1}};
    switch (event) {
      case kAdded:
        message.control.event = VIRTIO_CONSOLE_PORT_ADD;
        break;
      case kIsConsole:
        message.control.event = VIRTIO_CONSOLE_CONSOLE_PORT;
        break;
      case kName: {
        message.control.event = VIRTIO_CONSOLE_PORT_NAME;
        const auto name = std::as_bytes(std::span(name_));
        message.payload.assign(name.begin(), name.end());
        break;
      }
      case kOpened:
        message.control.event = VIRTIO_CONSOLE_PORT_OPEN;
        break;
      default: {
        // The specification puts the columns first. Linux before 6.16 expects the rows first.
        message.control.event = VIRTIO_CONSOLE_RESIZE;
        const std::array<uint16_t, 2> size = {size_->columns, size_->rows};
        const auto bytes = std::as_bytes(std::span(size));
        message.payload.assign(bytes.begin(), bytes.end());
      }
    }
    return message;
  }

 private:
  void send_events(uint8_t events) {
    pending_events_ |= events;
    console_.send_control();
  }

  Console& console_;
  const size_t index_;
  console::Backend& backend_;
  const std::string name_;
  std::optional<console::Size> size_;
  bool refused_ = false;  // the back end has input for which there was no buffer
  // Used only with VIRTIO_CONSOLE_F_MULTIPORT.
  bool ready_ = false;  // the driver has sent PORT_READY
  bool open_ = false;   // the driver has sent PORT_OPEN
  uint8_t pending_events_ = 0;
};

Console::Console(EventLoop& loop, std::vector<PortConfig> ports)
    : loop_(loop),
      queue_sizes_(ports.size() == 1 ? 2 : 2 + 2 * ports.size(), kQueueSize),
      size_(kDefaultSize),
      queues_(queue_sizes_.size()) {
  for (PortConfig& port : ports)
    ports_.push_back(std::make_unique<Port>(*this, ports_.size(), std::move(port)));
  for (const auto& port : ports_) port->connect();
}

Console::~Console() = default;

uint64_t Console::features() const {
  return feature_bit(VIRTIO_CONSOLE_F_SIZE) |
         (ports_.size() > 1 ? feature_bit(VIRTIO_CONSOLE_F_MULTIPORT) : 0);
}

void Console::read_config(uint64_t offset, std::span<std::byte> data) {
  const console::Size size = size_;
  const virtio_console_config config{.cols = size.columns,
                                     .rows = size.rows,
                                     .max_nr_ports = static_cast<uint32_t>(ports_.size()),
                                     .emerg_wr = 0};
  copy_config(config, offset, data);
}

void Console::activate(uint64_t features, std::vector<ActiveQueue> queues,
                       DriverNotifier& notifier) {
  loop_.call([&] {
    notifier_ = &notifier;
    multiport_ = has_feature(features, VIRTIO_CONSOLE_F_MULTIPORT);
    reports_size_ = has_feature(features, VIRTIO_CONSOLE_F_SIZE);
    for (ActiveQueue& queue : queues) add(std::move(queue));
    for (size_t i = 0; i < queues_.size(); ++i)
      if (queues_[i] != nullptr) serve(static_cast<uint16_t>(i));
    // Without multiport, Linux reads the size only after a configuration change.
    if (reports_size_ && !multiport_) notifier.config_changed();
  });
}

void Console::start_queue(ActiveQueue queue, DriverNotifier&) {
  loop_.call([&] {
    const uint16_t index = queue.index;
    add(std::move(queue));
    serve(index);
  });
}

void Console::add(ActiveQueue queue) {
  const uint16_t index = queue.index;
  queues_[index] = std::make_unique<LoopQueue>(loop_, std::move(queue), *notifier_, name_,
                                               warnings_, [this, index] { serve(index); });
}

void Console::reset() {
  loop_.call([this] {
    for (auto& queue : queues_) queue.reset();
    for (const auto& port : ports_) port->reset();
    notifier_ = nullptr;
    multiport_ = reports_size_ = false;
  });
}

void Console::serve(uint16_t queue) {
  if (queue == kControlReceive) return send_control();
  if (queue == kControlTransmit) return serve_control();
  Port& port = *ports_[port_of_queue(queue)];
  if (queue % 2 == 0)
    port.want_input();
  else
    port.transmit(*queues_[queue]);
}

void Console::serve_control() {
  queues_[kControlTransmit]->serve(kTurnBytes, [this](LoopQueue::Request& request, size_t& budget) {
    virtio_console_control control{};
    std::array<std::byte, sizeof(control)> bytes;
    if (request.readable.read(bytes) == sizeof(control)) {
      std::memcpy(&control, bytes.data(), sizeof(control));
      handle_control(control);
    } else {
      warnings_.warn("{}: the driver sent a control message that is too short", name_);
    }
    spend(budget, sizeof(control));
    return true;
  });
}

// 5.3.6.2, "Multiport Device Operation".
void Console::handle_control(const virtio_console_control& control) {
  if (control.event == VIRTIO_CONSOLE_DEVICE_READY) {
    if (control.value != 0)
      for (const auto& port : ports_) port->add();
  } else if (control.id >= ports_.size()) {
    warnings_.warn("{}: the driver sent a control message for port {} of {}", name_, control.id,
                   ports_.size());
  } else if (control.event == VIRTIO_CONSOLE_PORT_READY) {
    if (control.value != 0) ports_[control.id]->set_ready();
  } else if (control.event == VIRTIO_CONSOLE_PORT_OPEN) {
    ports_[control.id]->set_open(control.value != 0);
  } else {
    warnings_.warn("{}: the driver sent an unknown control event {}", name_, control.event);
  }
}

// Sends pending events while the driver has buffers. When the driver adds buffers, the remaining
// events are sent.
void Console::send_control() {
  if (!multiport_ || queues_[kControlReceive] == nullptr) return;
  queues_[kControlReceive]->serve(kTurnBytes, [this](LoopQueue::Request& request, size_t& budget) {
    const std::optional<Message> message = next_message();
    if (!message) return false;
    size_t written = request.writable.write(as_bytes(&message->control, sizeof(message->control)));
    written += request.writable.write(message->payload);
    request.written_bytes = static_cast<uint32_t>(written);
    spend(budget, written);
    return true;
  });
}

std::optional<Console::Message> Console::next_message() {
  for (const auto& port : ports_)
    if (auto message = port->next_message()) return message;
  return std::nullopt;
}

}  // namespace wick::virtio
