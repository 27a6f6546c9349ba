#include "virtio/vhost_net.h"

#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "virtio/net_control.h"

namespace wick::virtio {

namespace {

constexpr const char* kPath = "/dev/vhost-net";
constexpr uint64_t kFeatures =
    feature_bit(VIRTIO_RING_F_INDIRECT_DESC) | feature_bit(VIRTIO_RING_F_EVENT_IDX) |
    feature_bit(VIRTIO_F_VERSION_1) | feature_bit(VIRTIO_NET_F_MRG_RXBUF);

uint64_t address_of(const void* ring) { return reinterpret_cast<uint64_t>(ring); }

}  // namespace

// The loop watches the eventfd even while it is connected to KVM (irqfd). KVM then consumes each
// signal before the loop sees it. (Before Linux 5.11 both see it, and the driver gets two
// interrupts instead of one.)
Result<std::unique_ptr<VhostCall>> VhostCall::create(EventLoop& loop, DriverNotifier& notifier,
                                                     uint16_t queue) {
  std::unique_ptr<VhostCall> call(new VhostCall(notifier, TRY(EventFd::create())));
  call->watch_ =
      TRY(loop.watch(call->event_.fd(), EPOLLIN | EPOLLET, [self = call.get(), queue](uint32_t) {
        if (self->event_.consume()) self->notifier_.queue_interrupt(queue);
      }));
  notifier.connect_interrupt(queue, call->event_);
  return call;
}

Result<std::unique_ptr<VhostNet>> VhostNet::open() {
  Fd fd(::open(kPath, O_RDWR | O_CLOEXEC));
  if (!fd.valid())
    return with_hint(fail_errno(errno, "{}: cannot open", kPath),
                     "load the module (modprobe vhost_net) and check the file's permissions");
  uint64_t features = 0;
  if (::ioctl(fd.get(), VHOST_SET_OWNER) != 0 ||
      ::ioctl(fd.get(), VHOST_GET_FEATURES, &features) != 0)
    return fail_errno(errno, "{}: cannot set it up", kPath);
  if ((features & kFeatures) != kFeatures)
    return fail("{}: the kernel lacks features {:#x}", kPath, kFeatures & ~features);
  return std::unique_ptr<VhostNet>(new VhostNet(std::move(fd)));
}

Result<void> VhostNet::start_queue(EventLoop& loop, uint64_t features, ActiveQueue queue, int tap,
                                   DriverNotifier& notifier, const std::string& name) {
  const unsigned index = queue.index % kQueues;
  if (notifier_ == nullptr) {
    name_ = &name;
    features &= kFeatures;
    if (::ioctl(fd_.get(), VHOST_SET_FEATURES, &features) != 0)
      return fail_errno(errno, "{}: {}: cannot set features {:#x}", name, kPath, features);
    TRY(set_memory(queue.ring.memory()));
    notifier_ = &notifier;
  }
  queues_[index].active.emplace(std::move(queue));
  TRY(set_up(index, loop, notifier));
  queues_[index].tap = tap;
  set_backend(index, tap);
  return {};
}

void VhostNet::stop_queue(unsigned index) {
  Queue& queue = queues_[index];
  if (!queue.active) return;
  set_backend(index, -1);
  queue.call.reset();
  queue.error_watch.reset();
  queue.active.reset();
}

void VhostNet::stop() {
  for (unsigned index = 0; index < kQueues; ++index) stop_queue(index);
  notifier_ = nullptr;
}

Result<void> VhostNet::set_memory(const GuestMemory& memory) {
  const auto regions = memory.regions();
  std::vector<std::byte> storage(sizeof(vhost_memory) +
                                 regions.size() * sizeof(vhost_memory_region));
  store_le(std::span(storage).first(sizeof(uint32_t)), static_cast<uint32_t>(regions.size()));
  for (size_t i = 0; i < regions.size(); ++i) {
    vhost_memory_region region{};
    region.guest_phys_addr = regions[i].start.value;
    region.memory_size = regions[i].size_bytes;
    region.userspace_addr = address_of(regions[i].host);
    std::memcpy(storage.data() + sizeof(vhost_memory) + i * sizeof(region), &region,
                sizeof(region));
  }
  if (::ioctl(fd_.get(), VHOST_SET_MEM_TABLE, storage.data()) != 0)
    return fail_errno(errno, "{}: {}: cannot set the memory table", *name_, kPath);
  return {};
}

Result<void> VhostNet::set_up(unsigned index, EventLoop& loop, DriverNotifier& notifier) {
  Queue& queue = queues_[index];
  const VirtQueue& ring = queue.active->ring;
  const uint16_t number = queue.active->index;
  queue.call = TRY(VhostCall::create(loop, notifier, number));
  if (!queue.error) queue.error.emplace(TRY(EventFd::create()));
  queue.error->consume();  // a signal is left if the last driver broke its ring

  const vhost_vring_state size{index, ring.size()};
  const vhost_vring_state base{index, 0};
  const vhost_vring_addr addresses{index,
                                   0,
                                   address_of(ring.descriptors()),
                                   address_of(ring.device_area()),
                                   address_of(ring.driver_area()),
                                   0};
  const vhost_vring_file kick{index, queue.active->kick->fd()};
  const vhost_vring_file call{index, queue.call->event().fd()};
  const vhost_vring_file error{index, queue.error->fd()};
  if (::ioctl(fd_.get(), VHOST_SET_VRING_NUM, &size) != 0 ||
      ::ioctl(fd_.get(), VHOST_SET_VRING_BASE, &base) != 0 ||
      ::ioctl(fd_.get(), VHOST_SET_VRING_ADDR, &addresses) != 0 ||
      ::ioctl(fd_.get(), VHOST_SET_VRING_KICK, &kick) != 0 ||
      ::ioctl(fd_.get(), VHOST_SET_VRING_CALL, &call) != 0 ||
      ::ioctl(fd_.get(), VHOST_SET_VRING_ERR, &error) != 0)
    return fail_errno(errno, "{}: {}: cannot set up queue {}", *name_, kPath, number);

  queue.error_watch = TRY(loop.watch(queue.error->fd(), EPOLLIN | EPOLLET, [this](uint32_t) {
    warnings_.warn("{}: vhost-net reports a broken ring; the driver must reset the device", *name_);
    notifier_->needs_reset();
  }));
  return {};
}

void VhostNet::hold(bool held) const {
  for (unsigned index = 0; index < kQueues; ++index)
    if (queues_[index].active) set_backend(index, held ? -1 : queues_[index].tap);
}

void VhostNet::set_backend(unsigned index, int tap) const {
  const vhost_vring_file backend{index, tap};
  if (::ioctl(fd_.get(), VHOST_NET_SET_BACKEND, &backend) != 0 && tap >= 0) {
    spdlog::error("{}: {}: cannot use the TAP: {}", *name_, kPath, std::strerror(errno));
    notifier_->needs_reset();
  }
}

}  // namespace wick::virtio
