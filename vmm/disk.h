// One disk of the machine: the image, the virtio device over it and the loop
// that both belong to, put together and taken apart in the right order.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "block/async_io.h"
#include "block/backend.h"
#include "virtio/blk.h"
#include "vmm/config.h"

namespace wick {

class Disk {
 public:
  // `id`: what the guest will call it, "vda"; names the thread and messages.
  static Result<std::unique_ptr<Disk>> create(const DiskConfig& config, const std::string& id);
  ~Disk();

  virtio::VirtioDevice& device() { return *blk_; }

  // When the vCPUs have stopped: waits for the requests in flight and makes
  // everything written stable.
  Result<void> finish();

 private:
  Disk() = default;

  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<block::AsyncIo> io_;
  std::unique_ptr<block::Backend> backend_;
  std::unique_ptr<virtio::Blk> blk_;
};

}  // namespace wick
