// Controls vhost-vsock in the host's kernel (linux/vhost.h).
//
// Thread rule: open() on any thread, everything else on the loop's thread.
#pragma once

#include <memory>
#include <string>

#include "virtio/vhost.h"
#include "virtio/vsock.h"

namespace wick::virtio {

class VhostVsock final : public VsockKernel {
 public:
  // Opens /dev/vhost-vsock and takes the CID, which must be in Vsock::kMinCid to kMaxCid. Fails if
  // another machine has this CID. The loop must outlive the object; `name` is used in messages.
  static Result<std::unique_ptr<VhostVsock>> open(EventLoop& loop, uint32_t cid, std::string name);

  uint64_t features() const override;
  Result<void> add_ring(uint64_t features, ActiveQueue queue, DriverNotifier& notifier) override;
  void remove_ring(unsigned ring) override;
  Result<void> set_running(bool running) override;

 private:
  VhostVsock(EventLoop& loop, VhostFile file, std::string name)
      : loop_(loop), name_(std::move(name)), rings_(std::move(file)) {}

  EventLoop& loop_;
  const std::string name_;
  VhostRings rings_;
};

}  // namespace wick::virtio
