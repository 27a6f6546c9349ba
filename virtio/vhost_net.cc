#include "virtio/vhost_net.h"

#include <linux/vhost.h>
#include <sys/ioctl.h>

#include <cstring>

#include "virtio/net_control.h"

namespace wick::virtio {

namespace {

// The features that vhost-net must know. It need not know the offloads, which are set in the TAP.
constexpr uint64_t kFeatures = kVhostRingFeatures | feature_bit(VIRTIO_NET_F_MRG_RXBUF);

}  // namespace

Result<std::unique_ptr<VhostNet>> VhostNet::open() {
  return std::unique_ptr<VhostNet>(new VhostNet(
      TRY(open_vhost("/dev/vhost-net", "vhost_net", feature_bit(VIRTIO_NET_F_MRG_RXBUF)))));
}

Result<void> VhostNet::start_queue(EventLoop& loop, uint64_t features, ActiveQueue queue, int tap,
                                   DriverNotifier& notifier, const std::string& name) {
  const unsigned index = queue.index % VhostRings::kRings;
  TRY(rings_.add(loop, features & kFeatures, std::move(queue), notifier, name));
  taps_[index] = tap;
  set_backend(index, tap);
  return {};
}

void VhostNet::stop_queue(unsigned index) {
  if (!rings_.has(index)) return;
  set_backend(index, -1);
  rings_.remove(index);
}

void VhostNet::stop() {
  for (unsigned index = 0; index < VhostRings::kRings; ++index) stop_queue(index);
  rings_.remove_all();
}

void VhostNet::hold(bool held) const {
  for (unsigned index = 0; index < VhostRings::kRings; ++index)
    if (rings_.has(index)) set_backend(index, held ? -1 : taps_[index]);
}

void VhostNet::set_backend(unsigned index, int tap) const {
  const vhost_vring_file backend{index, tap};
  if (::ioctl(rings_.fd(), VHOST_NET_SET_BACKEND, &backend) != 0 && tap >= 0) {
    spdlog::error("{}: {}: cannot use the TAP: {}", rings_.name(), rings_.path(),
                  std::strerror(errno));
    rings_.notifier().needs_reset();
  }
}

}  // namespace wick::virtio
