#include "vmm/disk.h"

#include <filesystem>

#include "block/image.h"
#include "block/no_medium.h"
#include "block/overlay.h"
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

Result<std::vector<std::byte>> read_first_sector(const DiskConfig& config) {
  constexpr size_t kSectorBytes = 512;
  const auto thread = TRY(block::IoThread::create("first-sector"));
  block::ImageOptions options = image_options(config);
  options.read_only = true;
  options.ephemeral = false;
  std::vector<std::byte> sector(kSectorBytes);
  const iovec buffer{sector.data(), sector.size()};
  auto image = TRY(run_on(thread->loop(), block::open_image(config.path, options, thread->io())));
  const auto done = run_on(thread->loop(), image->read(0, std::span(&buffer, 1)));
  thread->loop().call([&] { image.reset(); });
  if (!done) return std::unexpected(done.error());
  return sector;
}

Result<std::unique_ptr<Disk>> Disk::create(const DiskConfig& config, const std::string& id,
                                           OnFailure on_failure) {
  std::unique_ptr<Disk> disk(new Disk(config, id));
  disk->thread_ = TRY(block::IoThread::create("disk-" + id));
  EventLoop& loop = disk->thread_->loop();
  disk->backend_ = std::make_unique<block::Supervised>(
      TRY(run_on(loop, block::open_image(config.path, image_options(config), disk->thread_->io()))),
      config.errors, std::move(on_failure));
  const bool has_tables =
      config.ephemeral || dynamic_cast<const block::Qcow2*>(&disk->backend_->image()) != nullptr;
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
  if (backend_) thread_->loop().call([this] { backend_->give_up(); });
  if (blk_) blk_->reset();
  if (drive_) drive_->drain();
}

void Disk::pause() {
  paused_ = true;
  run_on(thread_->loop(), [](block::Supervised& disk) -> Task<bool> {
    co_await disk.hold();
    co_return true;
  }(*backend_));
}

void Disk::resume() {
  paused_ = false;
  thread_->loop().call([this] { backend_->release(); });
}

DiskInfo Disk::info() {
  DiskInfo info{.id = id_,
                .path = config_.path,
                .device = config_.device,
                .media = config_.media,
                .read_only = config_.read_only,
                .cache = config_.cache,
                .serial = config_.serial,
                .counters = backend_->counters()};
  thread_->loop().call([&] {
    info.size_bytes = backend_->size_bytes();
    const auto* const image = dynamic_cast<const block::Qcow2*>(&backend_->image());
    info.format = image != nullptr || config_.ephemeral ? "qcow2" : "raw";
    if (image != nullptr) info.backing_path = image->header().backing_path;
  });
  return info;
}

Result<void> Disk::snapshot(const std::string& path) {
  if (config_.read_only || config_.ephemeral)
    return fail("disk {}: is {}, and nothing of it is kept", id_,
                config_.ephemeral ? "ephemeral" : "read-only");
  std::error_code ignored;
  block::SnapshotFile wanted{.path = path,
                             .size_bytes = backend_->size_bytes(),
                             .backing_path = std::filesystem::absolute(config_.path, ignored),
                             .backing_format = info().format,
                             .cache = image_options(config_).cache};
  EventLoop& loop = thread_->loop();
  TRY(run_on(loop, backend_->image().flush()));
  auto made = TRY(run_on(loop, block::create_snapshot(std::move(wanted), thread_->io())));
  loop.call([&] {
    block::Qcow2& top = *made;
    top.set_backing(backend_->replace_image(std::move(made)));
  });
  config_.path = path;
  return {};
}

Result<std::unique_ptr<block::Backend>> Disk::open_medium(const std::string& path) {
  DiskConfig config = config_;
  if (config.format != DiskConfig::Format::kRaw) config.format = DiskConfig::Format::kProbe;
  return run_on(thread_->loop(), block::open_image(path, image_options(config), thread_->io()));
}

uint64_t Disk::replace_medium(std::unique_ptr<block::Backend> image, const std::string& path) {
  if (image == nullptr) image = std::make_unique<block::NoMedium>();
  config_.path = path;
  const bool was_paused = paused_;
  pause();
  const uint64_t size_bytes = thread_->loop().call([&] {
    backend_->replace_image(std::move(image));
    return backend_->size_bytes();
  });
  if (!was_paused) resume();
  return size_bytes;
}

Result<void> Disk::resize(uint64_t size_bytes) {
  EventLoop& loop = thread_->loop();
  const uint64_t now = loop.call([this] { return backend_->size_bytes(); });
  if (size_bytes % 512 != 0)
    return fail("disk {}: the size {} is not a multiple of 512 bytes", id_, size_bytes);
  if (size_bytes < now)
    return with_hint(
        fail("disk {}: has {} bytes and cannot become smaller while the guest uses it", id_, now),
        "stop the machine and use wick image resize --shrink");
  if (config_.read_only) return fail("disk {}: it was given with readonly=on", id_);
  if (auto resized = run_on(loop, backend_->resize(size_bytes)); !resized) {
    resized.error().context.insert(0, fmt::format("disk {}: ", id_));
    return resized;
  }
  if (blk_) loop.call([this] { blk_->update_capacity(); });
  return {};
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
