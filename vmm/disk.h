// One disk of the machine: owns the image, the virtio device or IDE drive on top of it, and the
// loop that both belong to, and destroys them in the right order.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "block/backend.h"
#include "block/io_thread.h"
#include "devices/ide/drive.h"
#include "virtio/blk.h"
#include "vmm/config.h"

namespace wick::vmm {

class Disk {
 public:
  // `id` is the guest's name of the disk ("vda", "sda"), for the thread and for messages.
  static Result<std::unique_ptr<Disk>> create(const DiskConfig& config, const std::string& id);
  ~Disk();

  // One of the two exists, depending on the configuration; the other is nullptr.
  virtio::VirtioDevice* virtio() { return blk_.get(); }
  devices::IdeDrive* drive() { return drive_.get(); }

  // Announces the current size of the image to the guest (block::Backend::update_size()). Does
  // nothing on IDE, which has no event for that.
  Result<void> update_size();

  // Must be called after the vCPUs have stopped. Waits for the requests in flight and flushes
  // all writes.
  Result<void> finish();

 private:
  Disk() = default;
  void drain();

  std::unique_ptr<block::IoThread> thread_;
  std::unique_ptr<block::Backend> backend_;
  std::unique_ptr<virtio::Blk> blk_;
  std::unique_ptr<devices::IdeDrive> drive_;
};

}  // namespace wick::vmm
