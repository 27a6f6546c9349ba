#include "virtio/vhost_vsock.h"

#include <linux/vhost.h>
#include <linux/virtio_vsock.h>
#include <sys/ioctl.h>

namespace wick::virtio {

namespace {

// The features of the device type that wick offers if the kernel supports them.
constexpr uint64_t kDeviceFeatures = feature_bit(VIRTIO_VSOCK_F_SEQPACKET);

}  // namespace

Result<std::unique_ptr<VhostVsock>> VhostVsock::open(EventLoop& loop, uint32_t cid,
                                                     std::string name) {
  VhostFile file = TRY(open_vhost("/dev/vhost-vsock", "vhost_vsock"));
  const uint64_t guest_cid = cid;
  if (::ioctl(file.fd.get(), VHOST_VSOCK_SET_GUEST_CID, &guest_cid) != 0) {
    if (errno == EADDRINUSE)
      return with_hint(fail("--vsock {}: another machine of this host has this CID", cid),
                       fmt::format("give another, {} to {}", Vsock::kMinCid, Vsock::kMaxCid));
    return fail_errno(errno, "--vsock {}: {}: cannot set the CID", cid, file.path);
  }
  return std::unique_ptr<VhostVsock>(new VhostVsock(loop, std::move(file), std::move(name)));
}

uint64_t VhostVsock::features() const { return rings_.kernel_features() & kDeviceFeatures; }

Result<void> VhostVsock::add_ring(uint64_t features, ActiveQueue queue, DriverNotifier& notifier) {
  return rings_.add(loop_, features & (kDeviceFeatures | kVhostRingFeatures), std::move(queue),
                    notifier, name_);
}

void VhostVsock::remove_ring(unsigned ring) {
  rings_.remove(ring);
  if (!rings_.has(0) && !rings_.has(1)) rings_.remove_all();
}

Result<void> VhostVsock::set_running(bool running) {
  const int value = running ? 1 : 0;
  if (::ioctl(rings_.fd(), VHOST_VSOCK_SET_RUNNING, &value) != 0)
    return fail_errno(errno, "{}: {}: cannot {} the device", name_, rings_.path(),
                      running ? "start" : "stop");
  for (unsigned ring = 0; running && ring < VhostRings::kRings; ++ring) rings_.kick(ring);
  return {};
}

}  // namespace wick::virtio
