// Rings that vhost in the host's kernel serves (linux/vhost.h). The kernel processes and checks
// the rings itself. The transport's eventfds kick it, and it signals an eventfd of ours for an
// interrupt. How a device starts and stops is its own: vhost_net.h, vhost_vsock.h.
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

// The eventfd that vhost signals for an interrupt. While the transport can connect it (irqfd),
// KVM injects the interrupt without waking us; otherwise the loop sends it.
class VhostCall {
 public:
  // Both references must outlive the object.
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

// The ring's features that the transport offers; the kernel must have them.
constexpr uint64_t kVhostRingFeatures = feature_bit(VIRTIO_RING_F_INDIRECT_DESC) |
                                        feature_bit(VIRTIO_RING_F_EVENT_IDX) |
                                        feature_bit(VIRTIO_F_VERSION_1);

// A vhost device file, which belongs to this process.
struct VhostFile {
  Fd fd;
  const char* path = nullptr;
  uint64_t features = 0;  // those of the kernel
};
// Fails if the kernel lacks one of kVhostRingFeatures, or one of `required`. `module` is named in
// the hint.
Result<VhostFile> open_vhost(const char* path, const char* module, uint64_t required = 0);

class VhostRings {
 public:
  static constexpr size_t kRings = 2;  // both devices have two, receive and transmit

  explicit VhostRings(VhostFile file) : file_(std::move(file)) {}

  int fd() const { return file_.fd.get(); }
  const char* path() const { return file_.path; }
  uint64_t kernel_features() const { return file_.features; }

  // Gives a ring to the kernel, whose device must not be running. `queue.index` modulo kRings is
  // the kernel's number for it. All rings must get the same `features`, of which those that the
  // kernel does not have are left out, and the same references, which must be valid until
  // remove_all().
  Result<void> add(EventLoop& loop, uint64_t features, ActiveQueue queue, DriverNotifier& notifier,
                   const std::string& name);
  bool has(unsigned ring) const { return rings_[ring].active.has_value(); }
  // The kernel must not access the ring any more.
  void remove(unsigned ring);
  void remove_all();
  // Makes the kernel look at a ring that it has.
  void kick(unsigned ring) const { rings_[ring].active->kick->signal(); }

  // While there are rings.
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
  DriverNotifier* notifier_ = nullptr;  // while there are rings
  const std::string* name_ = nullptr;
  RateLimit warnings_;
};

}  // namespace wick::virtio
