#include "virtio/vsock.h"

#include <linux/virtio_vsock.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace wick::virtio {

// The configuration space (5.10.4).
void Vsock::read_config(uint64_t offset, std::span<std::byte> data) {
  copy_config(virtio_vsock_config{.guest_cid = cid_}, offset, data);
}

void Vsock::activate(uint64_t features, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  loop_.call([&] {
    driver_features_ = features;
    notifier_ = &notifier;
    for (ActiveQueue& queue : queues) add(std::move(queue));
    update();
  });
}

void Vsock::start_queue(ActiveQueue queue, DriverNotifier& notifier) {
  loop_.call([&] {
    notifier_ = &notifier;
    add(std::move(queue));
    update();
  });
}

// Stops the kernel's device, because vhost-vsock cannot stop a single ring. Neither ring is served
// until the driver has started this ring again.
void Vsock::stop_queue(uint16_t index) {
  loop_.call([&] {
    if (index >= kRings || !has_ring_[index]) return;
    has_ring_[index] = false;
    update();
    kernel_->remove_ring(index);
  });
}

void Vsock::reset() {
  loop_.call([this] {
    const auto had = std::exchange(has_ring_, {});
    update();
    for (unsigned ring = 0; ring < kRings; ++ring)
      if (had[ring]) kernel_->remove_ring(ring);
    notifier_ = nullptr;
  });
}

void Vsock::hold(bool held) {
  held_ = held;
  update();
}

void Vsock::add(ActiveQueue queue) {
  const uint16_t index = queue.index;
  if (index >= kRings) return;
  if (auto added = kernel_->add_ring(driver_features_, std::move(queue), *notifier_); !added) {
    spdlog::error("{}", added.error().message());
    kernel_->remove_ring(index);
    notifier_->needs_reset();
    return;
  }
  has_ring_[index] = true;
}

void Vsock::update() {
  const bool wanted = !held_ && std::ranges::all_of(has_ring_, std::identity());
  if (wanted == running_) return;
  const auto changed = kernel_->set_running(wanted);
  running_ = wanted && changed;
  if (changed) return;
  spdlog::error("{}", changed.error().message());
  if (notifier_ != nullptr) notifier_->needs_reset();
}

}  // namespace wick::virtio
