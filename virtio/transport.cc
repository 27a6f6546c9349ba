#include "virtio/transport.h"

#include <algorithm>
#include <array>

namespace wick::virtio {

namespace {

// 3.1.1: the driver sets these bits one by one, in this order.
struct StatusStep {
  uint8_t before;
  uint8_t added;
};
constexpr std::array kStatusSteps = {
    StatusStep{0, VIRTIO_CONFIG_S_ACKNOWLEDGE},
    StatusStep{VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER},
    StatusStep{VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_FEATURES_OK},
    StatusStep{VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK,
               VIRTIO_CONFIG_S_DRIVER_OK},
};

bool is_step(uint8_t before, uint8_t added) {
  for (const StatusStep& step : kStatusSteps)
    if (step.before == before && step.added == added) return true;
  return false;
}

}  // namespace

Result<std::vector<EventFd>> Transport::make_kicks(const VirtioDevice& device) {
  std::vector<EventFd> kicks;
  for (size_t i = 0; i < device.queue_max_sizes().size(); ++i)
    kicks.push_back(TRY(EventFd::create()));
  return kicks;
}

uint32_t Transport::device_features_word() const {
  if (device_features_select_ > 1) return 0;
  return static_cast<uint32_t>(offered_features() >> (32 * device_features_select_));
}

uint32_t Transport::driver_features_word() const {
  if (driver_features_select_ > 1) return 0;
  return static_cast<uint32_t>(driver_features_ >> (32 * driver_features_select_));
}

void Transport::set_driver_features_word(uint32_t word) {
  if (driver_features_select_ > 1) return;
  if ((status() & VIRTIO_CONFIG_S_FEATURES_OK) != 0) {  // 2.2.1: negotiation is over
    warnings_.warn("{}: the driver changed features after FEATURES_OK; ignored", name_);
    return;
  }
  const unsigned shift = 32 * driver_features_select_;
  driver_features_ &= ~(0xffffffffull << shift);
  driver_features_ |= static_cast<uint64_t>(word) << shift;
}

void Transport::set_status(uint8_t value) {
  if (value == 0) {
    reset();
    return;
  }
  const auto before = static_cast<uint8_t>(status() & ~VIRTIO_CONFIG_S_NEEDS_RESET);
  const auto added = static_cast<uint8_t>(value & ~before & ~VIRTIO_CONFIG_S_NEEDS_RESET);
  if (added == 0) return;
  if ((added & VIRTIO_CONFIG_S_FAILED) != 0) {
    status_.fetch_or(VIRTIO_CONFIG_S_FAILED);
    warnings_.warn("{}: the driver set status FAILED", name_);
    return;
  }
  // A driver may set several bits in one write; they are handled in the order of kStatusSteps.
  for (const StatusStep& step : kStatusSteps) {
    if ((added & step.added) == 0) continue;
    const auto current = static_cast<uint8_t>(status() & ~VIRTIO_CONFIG_S_NEEDS_RESET);
    if (!is_step(current, step.added)) {
      warnings_.warn("{}: the driver wrote status {:#x} out of order after {:#x}; ignored", name_,
                     value, current);
      return;
    }
    if (step.added == VIRTIO_CONFIG_S_FEATURES_OK) {
      // 2.2.2, 6.1: the driver must accept a subset of the offered features that contains
      // VERSION_1.
      if ((driver_features_ & ~offered_features()) != 0 ||
          !has_feature(driver_features_, VIRTIO_F_VERSION_1)) {
        warnings_.warn("{}: the driver accepted features {:#x}, offered were {:#x}; refused", name_,
                       driver_features_, offered_features());
        return;
      }
    }
    status_.fetch_or(step.added);
    if (step.added == VIRTIO_CONFIG_S_DRIVER_OK) activate();
  }
}

Transport::QueueState* Transport::configurable_queue() {
  if (queue_select_ >= queues_.size()) return nullptr;
  QueueState& queue = queues_[queue_select_];
  const uint8_t now = status();
  const bool restartable = active_ && has_feature(driver_features_, VIRTIO_F_RING_RESET);
  if (queue.ready || (now & VIRTIO_CONFIG_S_FEATURES_OK) == 0 ||
      ((now & VIRTIO_CONFIG_S_DRIVER_OK) != 0 && !restartable)) {
    warnings_.warn("{}: the driver changed queue {} at the wrong time; ignored", name_,
                   queue_select_);
    return nullptr;
  }
  return &queue;
}

const Transport::QueueState* Transport::selected_queue() const {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

uint16_t Transport::selected_queue_max() const {
  return queue_select_ < queues_.size() ? device_.queue_max_sizes()[queue_select_] : uint16_t{0};
}

void Transport::set_queue_ready(bool ready) {
  if (ready) {
    QueueState* const queue = configurable_queue();
    if (queue == nullptr) return;
    queue->ready = true;
    if (!active_) return;
    if (auto opened = open_queue(static_cast<uint16_t>(queue_select_)))
      device_.start_queue(*std::move(opened), *this);
    return;
  }
  if (queue_select_ >= queues_.size() || !queues_[queue_select_].ready) return;
  queues_[queue_select_].ready = false;
  // 4.2.2.1, 4.2.2.2: the device must not access the queue from now on.
  if (active_) device_.stop_queue(static_cast<uint16_t>(queue_select_));
}

bool Transport::reset_queue() {
  if (queue_select_ >= queues_.size() || (status() & VIRTIO_CONFIG_S_FEATURES_OK) == 0 ||
      !has_feature(driver_features_, VIRTIO_F_RING_RESET))
    return false;
  if (active_) device_.stop_queue(static_cast<uint16_t>(queue_select_));
  queues_[queue_select_] = {.size = selected_queue_max()};
  return true;
}

void Transport::enable_dma(bool enabled) {
  const MutexLock lock(mutex_);
  dma_enabled_ = enabled;
  if (enabled) return activate();
  if (!active_) return;
  device_.reset();
  active_ = false;
  // Sets the bit without an interrupt to the driver: the interrupt might arrive when the next
  // driver starts, which does not expect it.
  status_.fetch_or(VIRTIO_CONFIG_S_NEEDS_RESET);
}

void Transport::kick(uint32_t queue) const {
  if (queue < kicks_.size()) kicks_[queue].signal();
}

std::vector<Transport::QueueState> Transport::initial_queues(const VirtioDevice& device) {
  std::vector<QueueState> queues;
  for (const uint16_t size : device.queue_max_sizes()) queues.push_back({.size = size});
  return queues;
}

void Transport::config_changed() {
  ++config_generation_;
  config_interrupt();
}

void Transport::needs_reset() {
  // 2.1.2: the device sends a configuration change notification only after DRIVER_OK.
  if ((status_.fetch_or(VIRTIO_CONFIG_S_NEEDS_RESET) & VIRTIO_CONFIG_S_DRIVER_OK) != 0)
    config_changed();
}

void Transport::power_off() {
  const MutexLock lock(mutex_);
  reset();
}

// Creates the ring of a queue. Returns nullopt if the driver's values are unusable; the device then
// needs a reset.
std::optional<ActiveQueue> Transport::open_queue(uint16_t index) {
  const QueueState& queue = queues_[index];
  auto ring = VirtQueue::create(
      memory_, {.size = queue.size,
                .descriptors = {queue.descriptors},
                .driver_area = {queue.driver_area},
                .device_area = {queue.device_area},
                .event_index = has_feature(driver_features_, VIRTIO_RING_F_EVENT_IDX),
                .indirect = has_feature(driver_features_, VIRTIO_RING_F_INDIRECT_DESC),
                .max_chain = device_.queue_max_sizes()[index]});
  if (ring && queue.size <= device_.queue_max_sizes()[index])
    return ActiveQueue{index, *std::move(ring), &kicks_[index]};
  warnings_.warn("{}: queue {} is unusable: {}", name_, index,
                 ring ? "it is too large" : ring.error().message());
  needs_reset();
  return std::nullopt;
}

// Gives the device its queues if DRIVER_OK is set and the bus permits DMA.
void Transport::activate() {
  const uint8_t now = status();
  const bool broken = (now & (VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)) != 0;
  if (active_ || broken || !dma_enabled_ || (now & VIRTIO_CONFIG_S_DRIVER_OK) == 0) return;
  std::vector<ActiveQueue> opened;
  for (size_t i = 0; i < queues_.size(); ++i) {
    if (!queues_[i].ready) continue;
    auto queue = open_queue(static_cast<uint16_t>(i));
    if (!queue) return;
    opened.push_back(*std::move(queue));
  }
  active_ = true;
  device_.activate(driver_features_, std::move(opened), *this);
}

void Transport::reset() {
  device_.reset();
  active_ = false;
  driver_features_ = 0;
  device_features_select_ = 0;
  driver_features_select_ = 0;
  queue_select_ = 0;
  queues_ = initial_queues(device_);
  status_ = 0;
  reset_interrupts();
}

}  // namespace wick::virtio
