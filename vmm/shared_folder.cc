#include "vmm/shared_folder.h"

#include "vmm/network_card.h"

namespace wick::vmm {

namespace {

virtio::FuseCache fuse_cache(ShareConfig::Cache cache) {
  switch (cache) {
    case ShareConfig::Cache::kAlways:
      return virtio::FuseCache::kAlways;
    case ShareConfig::Cache::kNever:
      return virtio::FuseCache::kNever;
    case ShareConfig::Cache::kAuto:
      break;
  }
  return virtio::FuseCache::kAuto;
}

}  // namespace

Result<std::unique_ptr<SharedFolder>> SharedFolder::create(const ShareConfig& config,
                                                           size_t shares) {
  share::TreeOptions options;
  options.path = config.path;
  options.read_only = config.read_only;
  options.security = config.security;
  options.squash_uid = config.squash_uid;
  options.squash_gid = config.squash_gid;
  options.uids = share::IdMap(config.uids);
  options.gids = share::IdMap(config.gids);
  options.shares = shares;
  std::unique_ptr<SharedFolder> folder(new SharedFolder);
  folder->tree_ = TRY(share::Tree::open(options));
  folder->thread_ = TRY(LoopThread::start("share-" + config.tag));
  EventLoop& loop = folder->thread_->loop();
  if (config.device == ShareConfig::Device::k9p)
    folder->p9_ = TRY(virtio::P9::create(*folder->tree_, loop, config.tag));
  else
    folder->fs_ =
        TRY(virtio::Fs::create(*folder->tree_, loop, config.tag, fuse_cache(config.cache)));
  return folder;
}

SharedFolder::~SharedFolder() {
  if (virtio() != nullptr) virtio()->reset();
  fs_.reset();
  p9_.reset();
  if (thread_) thread_->stop();
}

// First lets the loop serve what the guest kicked before the pause.
void SharedFolder::pause() {
  for (int round = 0; round < kRoundsOfAPause; ++round) thread_->loop().call([] {});
  if (fs_) fs_->pause();
  if (p9_) p9_->pause();
}

void SharedFolder::resume() {
  if (fs_) fs_->resume();
  if (p9_) p9_->resume();
}

}  // namespace wick::vmm
