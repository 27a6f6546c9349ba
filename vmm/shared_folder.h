// One share of the machine: owns the tree of host files, the virtio device on top of it, and the
// device's loop, and destroys them in the right order.
#pragma once

#include <memory>

#include "base/event_loop.h"
#include "base/result.h"
#include "virtio/fs.h"
#include "virtio/p9.h"
#include "vmm/config.h"

namespace wick::vmm {

class SharedFolder {
 public:
  // `shares` is the number of the machine's shares, among which the process's limit of file
  // descriptors is divided.
  static Result<std::unique_ptr<SharedFolder>> create(const ShareConfig& config, size_t shares);
  ~SharedFolder();

  virtio::VirtioDevice* virtio() {
    if (p9_) return p9_.get();
    return fs_.get();
  }

  // Waits for the requests in flight, and holds new requests until resume().
  void pause();
  void resume();

 private:
  SharedFolder() = default;

  std::unique_ptr<share::Tree> tree_;
  std::unique_ptr<LoopThread> thread_;
  // Exactly one of these exists.
  std::unique_ptr<virtio::Fs> fs_;
  std::unique_ptr<virtio::P9> p9_;
};

}  // namespace wick::vmm
