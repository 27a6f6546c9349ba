// One disk of the machine: the image, the virtio device or IDE drive over it and
// the loop that both belong to, put together and taken apart in the right order.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "block/async_io.h"
#include "block/backend.h"
#include "devices/ide/drive.h"
#include "virtio/blk.h"
#include "vmm/config.h"

namespace wick {

class Disk {
 public:
  // `id`: what the guest will call it, "vda", "sda"; names the thread and messages.
  static Result<std::unique_ptr<Disk>> create(const DiskConfig& config, const std::string& id);
  ~Disk();

  // One of them is there, as the configuration has it; the other is nullptr.
  virtio::VirtioDevice* virtio() { return blk_.get(); }
  devices::IdeDrive* drive() { return drive_.get(); }

  // The guest sees the size that the image has now (block::Backend::update_size()); not on
  // IDE, which knows no such event.
  Result<void> update_size();

  // When the vCPUs have stopped: waits for the requests in flight and makes
  // everything written stable.
  Result<void> finish();

 private:
  Disk() = default;
  void drain();

  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<block::AsyncIo> io_;
  std::unique_ptr<block::Backend> backend_;
  std::unique_ptr<virtio::Blk> blk_;
  std::unique_ptr<devices::IdeDrive> drive_;
};

}  // namespace wick
