#include "vmm/disk.h"

#include "block/image.h"
#include "block/qcow2/qcow2.h"

namespace wick::vmm {

namespace {

block::ImageOptions image_options(const DiskConfig& config) {
  block::ImageOptions options;
  if (config.format == DiskConfig::Format::kRaw) options.format = block::Format::kRaw;
  if (config.format == DiskConfig::Format::kQcow2) options.format = block::Format::kQcow2;
  if (config.cache_bytes != 0) options.cache_bytes = config.cache_bytes;
  options.read_only = config.read_only;
  options.ephemeral = config.ephemeral;
  options.data_path = config.data_path;
  if (config.any_backing) options.names = block::Names::kRead;
  switch (config.cache) {
    case DiskConfig::Cache::kWriteback:
      options.cache = block::Cache::kWriteback;
      break;
    case DiskConfig::Cache::kNone:
      options.cache = block::Cache::kNone;
      break;
    case DiskConfig::Cache::kUnsafe:
      options.cache = block::Cache::kUnsafe;
      break;
  }
  return options;
}

}  // namespace

Result<std::unique_ptr<Disk>> Disk::create(const DiskConfig& config, const std::string& id) {
  std::unique_ptr<Disk> disk(new Disk);
  disk->thread_ = TRY(block::IoThread::create("disk-" + id));
  EventLoop& loop = disk->thread_->loop();
  disk->backend_ =
      TRY(run_on(loop, block::open_image(config.path, image_options(config), disk->thread_->io())));
  const bool has_tables =
      config.ephemeral || dynamic_cast<const block::Qcow2*>(disk->backend_.get()) != nullptr;
  if (config.cache_bytes != 0 && !has_tables)
    return with_hint(fail("disk {}: cache-size={}: a raw disk has no tables to cache", config.path,
                          config.cache_bytes),
                     "leave out cache-size");
  if (config.device == DiskConfig::Device::kVirtio) {
    disk->blk_ =
        std::make_unique<virtio::Blk>(*disk->backend_, loop, config.serial, id, config.queues);
    return disk;
  }
  using Kind = devices::IdeDrive::Kind;
  const Kind kind = config.media == DiskConfig::Media::kCdrom ? Kind::kCdrom : Kind::kDisk;
  disk->drive_ =
      std::make_unique<devices::IdeDrive>(kind, *disk->backend_, loop, config.serial, id);
  return disk;
}

Disk::~Disk() {
  drain();
  if (thread_) thread_->stop();
}

void Disk::drain() {
  if (blk_) blk_->reset();
  if (drive_) drive_->drain();
}

Result<void> Disk::update_size() {
  if (!blk_) return {};
  auto updated = run_on(thread_->loop(), backend_->update_size());
  thread_->loop().call([this] { blk_->update_capacity(); });
  return updated;
}

Result<void> Disk::finish() {
  drain();
  return run_on(thread_->loop(), block::final_flush(*backend_));
}

}  // namespace wick::vmm
