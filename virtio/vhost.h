// Rings that vhost in the host's kernel serves (linux/vhost.h). The kernel processes and checks
// the rings itself. The transport's eventfds kick the kernel, and the kernel signals a VhostCall
// for an interrupt. vhost_net.h and vhost_vsock.h start and stop the devices.
//
// Thread rule: the loop's thread, except open_vhost().
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "virtio/device.h"

namespace wick::virtio {

// The eventfd that vhost signals for an interrupt. While the transport can connect it to KVM
// (irqfd), KVM injects the interrupt and no wick thread wakes up; otherwise the loop sends the
// interrupt.
class VhostCall {
 public:
  // `loop` and `notifier` must outlive the object.
  static Result<std::unique_ptr<VhostCall>> create(EventLoop& loop, DriverNotifier& notifier,
                                                   uint16_t queue);
  ~VhostCall() { notifier_.disconnect_interrupt(event_); }

  const EventFd& event() const { return event_; }

 private:
  VhostCall(DriverNotifier& notifier, EventFd event)
      : notifier_(notifier), event_(std::move(event)) {}

  DriverNotifier& notifier_;
  const EventFd event_;
  EventLoop::Watch watch_;
};

// The ring features that the transport offers. The kernel must support all of them.
constexpr uint64_t kVhostRingFeatures = feature_bit(VIRTIO_RING_F_INDIRECT_DESC) |
                                        feature_bit(VIRTIO_RING_F_EVENT_IDX) |
                                        feature_bit(VIRTIO_F_VERSION_1);

// An open vhost device file whose owner is this process (VHOST_SET_OWNER).
struct VhostFile {
  Fd fd;
  const char* path = nullptr;
  uint64_t features = 0;  // the features that the kernel supports
};
// Opens a vhost device file. Fails if the kernel lacks one of kVhostRingFeatures or of `required`.
// The hint of an error names `module`.
Result<VhostFile> open_vhost(const char* path, const char* module, uint64_t required = 0);

class VhostRings {
 public:
  static constexpr size_t kRings = 2;  // both devices have two, receive and transmit

  explicit VhostRings(VhostFile file) : file_(std::move(file)) {}

  int fd() const { return file_.fd.get(); }
  const char* path() const { return file_.path; }
  uint64_t kernel_features() const { return file_.features; }

  // Gives a ring to the kernel, while the kernel's device is stopped. The kernel's number for the
  // ring is `queue.index` modulo kRings. Features that the kernel does not support are left out of
  // `features`. All rings must get the same `features` and the same references, which must be valid
  // until remove_all().
  Result<void> add(EventLoop& loop, uint64_t features, ActiveQueue queue, DriverNotifier& notifier,
                   const std::string& name);
  bool has(unsigned ring) const { return rings_[ring].active.has_value(); }
  // Forgets a ring. The kernel must no longer access it.
  void remove(unsigned ring);
  void remove_all();
  // Makes the kernel look for new chains in a ring. The kernel must have the ring.
  void kick(unsigned ring) const { rings_[ring].active->kick->signal(); }

  // name() and notifier() may be called only while there are rings.
  const std::string& name() const { return *name_; }
  DriverNotifier& notifier() const { return *notifier_; }

 private:
  struct Ring {
    std::optional<ActiveQueue> active;
    std::unique_ptr<VhostCall> call;
    std::optional<EventFd> error;  // the kernel signals it if the ring is broken
    EventLoop::Watch error_watch;
  };

  Result<void> set_up(unsigned index, EventLoop& loop);
  Result<void> set_memory(const GuestMemory& memory) const;

  const VhostFile file_;
  std::array<Ring, kRings> rings_;
  DriverNotifier* notifier_ = nullptr;  // set while there are rings
  const std::string* name_ = nullptr;
  RateLimit warnings_;
};

}  // namespace wick::virtio
