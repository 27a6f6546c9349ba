// One disk of the machine: owns the image, the virtio device or IDE drive on top of it, and the
// loop that both belong to, and destroys them in the right order.
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

// The first 512 bytes of a disk, which is opened for that and closed again.
Result<std::vector<std::byte>> read_first_sector(const DiskConfig& config);

class Disk {
 public:
  // `id` is the guest's name of the disk ("vda", "sda"), for the thread and for messages.
  // `on_failure` is called on the disk's thread for each error of the host.
  using OnFailure = std::function<void(const block::Supervised::Failure&)>;
  static Result<std::unique_ptr<Disk>> create(const DiskConfig& config, const std::string& id,
                                              OnFailure on_failure = {});
  ~Disk();

  // One of the two exists, depending on the configuration; the other is nullptr.
  virtio::VirtioDevice* virtio() { return blk_.get(); }
  devices::IdeDrive* drive() { return drive_.get(); }

  const DiskConfig& config() const { return config_; }
  const std::string& id() const { return id_; }

  // Waits for the requests in flight, and holds new ones until resume().
  void pause();
  void resume();
  DiskInfo info();
  // Only to a larger size.
  Result<void> resize(uint64_t size_bytes);
  // Continues with a new qcow2 overlay at `path` over the image. Requests must be held.
  Result<void> snapshot(const std::string& path);

  // Of a CD-ROM drive. Opens an image for replace_medium().
  Result<std::unique_ptr<block::Backend>> open_medium(const std::string& path);
  // Takes the image out, and puts another in, or none with nullptr. Waits for the requests in
  // flight. Returns the new size.
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
