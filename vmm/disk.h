// One disk of the machine: owns the image, the virtio device or IDE drive on top of the image, and
// the event loop of both. Destroys them in the right order.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/io_thread.h"
#include "block/supervised.h"
#include "devices/ide/drive.h"
#include "virtio/blk.h"
#include "vmm/config.h"
#include "vmm/hardware.h"

namespace wick::vmm {

// Returns the first 512 bytes of a disk. Opens its image read-only and closes it again.
Result<std::vector<std::byte>> read_first_sector(const DiskConfig& config);

class Disk {
 public:
  using OnFailure = std::function<void(const block::Supervised::Failure&)>;
  // `id` is the guest's name of the disk ("vda", "sda"), for the thread and for messages.
  // `on_failure` is called on the disk's thread for each request that the host could not execute.
  static Result<std::unique_ptr<Disk>> create(const DiskConfig& config, const std::string& id,
                                              OnFailure on_failure = {});
  ~Disk();

  // The disk is either a virtio device or an IDE drive, depending on the configuration; the other
  // function returns nullptr.
  virtio::VirtioDevice* virtio() { return blk_.get(); }
  devices::IdeDrive* drive() { return drive_.get(); }

  const DiskConfig& config() const { return config_; }
  const std::string& id() const { return id_; }

  // Waits for the requests in flight, and holds new requests until resume().
  void pause();
  void resume();
  DiskInfo info();
  // Enlarges the image and tells the guest. Fails for a size smaller than the present one.
  Result<void> resize(uint64_t size_bytes);
  // Creates a qcow2 overlay at `path` over the image, and continues with the overlay. The disk must
  // be paused.
  Result<void> snapshot(const std::string& path);

  // For a CD-ROM drive: opens an image for replace_medium().
  Result<std::unique_ptr<block::Backend>> open_medium(const std::string& path);
  // For a CD-ROM drive: replaces the image by another; nullptr leaves the drive empty. Waits for
  // the requests in flight. Returns the new size in bytes.
  uint64_t replace_medium(std::unique_ptr<block::Backend> image, const std::string& path);
  bool has_medium() const { return !config_.path.empty(); }

  // Announces the current size of the image to the guest (block::Backend::update_size()). Does
  // nothing on IDE, which has no event for that.
  Result<void> update_size();

  // Must be called after the vCPUs have stopped. Waits for the requests in flight and flushes
  // all writes.
  Result<void> finish();

 private:
  Disk(const DiskConfig& config, const std::string& id) : config_(config), id_(id) {}
  void drain();

  DiskConfig config_;
  const std::string id_;
  bool paused_ = false;
  std::unique_ptr<block::IoThread> thread_;
  std::unique_ptr<block::Supervised> backend_;
  std::unique_ptr<virtio::Blk> blk_;
  std::unique_ptr<devices::IdeDrive> drive_;
};

}  // namespace wick::vmm
