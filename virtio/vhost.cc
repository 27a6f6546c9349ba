#include "virtio/vhost.h"

#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include <cstring>
#include <vector>

#include "base/bytes.h"

namespace wick::virtio {

namespace {

uint64_t address_of(const void* ring) { return reinterpret_cast<uint64_t>(ring); }

}  // namespace

// The loop watches the eventfd even while it is connected to KVM (irqfd), because KVM then consumes
// each signal before the loop sees it. (Before Linux 5.11 both see the signal, and the driver gets
// two interrupts instead of one.)
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

Result<VhostFile> open_vhost(const char* path, const char* module, uint64_t required) {
  VhostFile file{.fd = Fd(::open(path, O_RDWR | O_CLOEXEC)), .path = path};
  if (!file.fd.valid())
    return with_hint(
        fail_errno(errno, "{}: cannot open", path),
        fmt::format("load the module (modprobe {}) and check the file's permissions", module));
  if (::ioctl(file.fd.get(), VHOST_SET_OWNER) != 0 ||
      ::ioctl(file.fd.get(), VHOST_GET_FEATURES, &file.features) != 0)
    return fail_errno(errno, "{}: cannot set it up", path);
  required |= kVhostRingFeatures;
  if ((file.features & required) != required)
    return fail("{}: the kernel lacks features {:#x}", path, required & ~file.features);
  return file;
}

Result<void> VhostRings::add(EventLoop& loop, uint64_t features, ActiveQueue queue,
                             DriverNotifier& notifier, const std::string& name) {
  const unsigned index = queue.index % kRings;
  if (notifier_ == nullptr) {
    name_ = &name;
    features &= file_.features;
    if (::ioctl(fd(), VHOST_SET_FEATURES, &features) != 0)
      return fail_errno(errno, "{}: {}: cannot set features {:#x}", name, path(), features);
    TRY(set_memory(queue.ring.memory()));
    notifier_ = &notifier;
  }
  rings_[index].active.emplace(std::move(queue));
  return set_up(index, loop);
}

void VhostRings::remove(unsigned ring) {
  rings_[ring].call.reset();
  rings_[ring].error_watch.reset();
  rings_[ring].active.reset();
}

void VhostRings::remove_all() {
  for (unsigned ring = 0; ring < kRings; ++ring) remove(ring);
  notifier_ = nullptr;
}

Result<void> VhostRings::set_memory(const GuestMemory& memory) const {
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
  if (::ioctl(fd(), VHOST_SET_MEM_TABLE, storage.data()) != 0)
    return fail_errno(errno, "{}: {}: cannot set the memory table", *name_, path());
  return {};
}

Result<void> VhostRings::set_up(unsigned index, EventLoop& loop) {
  Ring& target = rings_[index];
  const VirtQueue& ring = target.active->ring;
  const uint16_t number = target.active->index;
  target.call = TRY(VhostCall::create(loop, *notifier_, number));
  if (!target.error) target.error.emplace(TRY(EventFd::create()));
  target.error->consume();  // clears the signal that is left if the last driver broke its ring

  const vhost_vring_state size{index, ring.size()};
  const vhost_vring_state base{index, 0};
  const vhost_vring_addr addresses{index,
                                   0,
                                   address_of(ring.descriptors()),
                                   address_of(ring.device_area()),
                                   address_of(ring.driver_area()),
                                   0};
  const vhost_vring_file kick{index, target.active->kick->fd()};
  const vhost_vring_file call{index, target.call->event().fd()};
  const vhost_vring_file error{index, target.error->fd()};
  if (::ioctl(fd(), VHOST_SET_VRING_NUM, &size) != 0 ||
      ::ioctl(fd(), VHOST_SET_VRING_BASE, &base) != 0 ||
      ::ioctl(fd(), VHOST_SET_VRING_ADDR, &addresses) != 0 ||
      ::ioctl(fd(), VHOST_SET_VRING_KICK, &kick) != 0 ||
      ::ioctl(fd(), VHOST_SET_VRING_CALL, &call) != 0 ||
      ::ioctl(fd(), VHOST_SET_VRING_ERR, &error) != 0)
    return fail_errno(errno, "{}: {}: cannot set up queue {}", *name_, path(), number);

  target.error_watch = TRY(loop.watch(target.error->fd(), EPOLLIN | EPOLLET, [this](uint32_t) {
    warnings_.warn("{}: {} reports a broken ring; the driver must reset the device", *name_,
                   path());
    notifier_->needs_reset();
  }));
  return {};
}

}  // namespace wick::virtio
