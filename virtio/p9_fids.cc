#include "virtio/p9_fids.h"

#include <sys/xattr.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace wick::virtio::p9 {

namespace {

bool take(std::atomic<size_t>& budget_bytes, size_t size_bytes) {
  size_t left = budget_bytes;
  do {
    if (size_bytes > left) return false;
  } while (!budget_bytes.compare_exchange_weak(left, left - size_bytes));
  return true;
}

}  // namespace

OpenFile::~OpenFile() {
  // Linux, too, releases the locks of a process when it closes the file.
  for (const uint64_t owner : lock_owners_) tree_.release_locks(node_->id(), owner);
  tree_.close(id_);
}

OpenFile::LockOwner OpenFile::add_lock_owner(uint64_t owner) {
  const MutexLock lock(mutex_);
  if (std::ranges::find(lock_owners_, owner) != lock_owners_.end()) return LockOwner::kKnown;
  if (lock_owners_.size() == kMaxLockOwners) return LockOwner::kTooMany;
  lock_owners_.push_back(owner);
  return LockOwner::kNew;
}

void OpenFile::remove_lock_owner(uint64_t owner) {
  const MutexLock lock(mutex_);
  std::erase(lock_owners_, owner);
}

std::shared_ptr<XattrValue> XattrValue::to_read(std::vector<std::byte> value,
                                                std::atomic<size_t>& budget_bytes) {
  if (!take(budget_bytes, value.size())) return nullptr;
  std::shared_ptr<XattrValue> xattr(new XattrValue(budget_bytes, value.size()));
  const MutexLock lock(xattr->mutex_);
  xattr->value_ = std::move(value);
  return xattr;
}

std::shared_ptr<XattrValue> XattrValue::to_write(std::string name, size_t size_bytes, int flags,
                                                 std::atomic<size_t>& budget_bytes) {
  if (!take(budget_bytes, size_bytes)) return nullptr;
  std::shared_ptr<XattrValue> xattr(new XattrValue(budget_bytes, size_bytes));
  xattr->writable_ = true;
  xattr->name_ = std::move(name);
  xattr->flags_ = flags;
  const MutexLock lock(xattr->mutex_);
  xattr->value_.resize(size_bytes);
  return xattr;
}

size_t XattrValue::read(uint64_t offset, std::span<const iovec> to) {
  const MutexLock lock(mutex_);
  std::span<const std::byte> rest(value_);
  rest = rest.subspan(std::min<uint64_t>(offset, rest.size()));
  size_t copied = 0;
  for (const iovec& buffer : to) {
    const size_t part = std::min(buffer.iov_len, rest.size() - copied);
    if (part > 0) std::memcpy(buffer.iov_base, rest.data() + copied, part);
    copied += part;
  }
  return copied;
}

share::Outcome<size_t> XattrValue::write(uint64_t offset, std::span<const iovec> from) {
  const MutexLock lock(mutex_);
  if (!writable_) return share::refuse(EBADF);
  if (offset != written_bytes_) return share::refuse(EINVAL);
  const size_t before = written_bytes_;
  for (const iovec& buffer : from) {
    if (buffer.iov_len > value_.size() - written_bytes_) {
      written_bytes_ = before;
      return share::refuse(ENOSPC);
    }
    if (buffer.iov_len > 0)
      std::memcpy(value_.data() + written_bytes_, buffer.iov_base, buffer.iov_len);
    written_bytes_ += buffer.iov_len;
  }
  return written_bytes_ - before;
}

share::Outcome<> XattrValue::set(share::Tree& tree, share::NodeId node) {
  const MutexLock lock(mutex_);
  if (written_bytes_ != value_.size()) return share::refuse(EINVAL);
  // The protocol has no message for removexattr(2); Linux sends an empty value with XATTR_REPLACE.
  if (value_.empty() && flags_ == XATTR_REPLACE) return tree.remove_xattr(node, name_);
  return tree.set_xattr(node, name_, value_, flags_);
}

share::Outcome<Fid> FidTable::find(uint32_t id) const {
  const MutexLock lock(mutex_);
  const auto found = fids_.find(id);
  if (found == fids_.end()) return share::refuse(EBADF);
  return found->second;
}

share::Outcome<> FidTable::add(uint32_t id, Fid fid) {
  const MutexLock lock(mutex_);
  if (fids_.contains(id)) return share::refuse(EEXIST);
  if (fids_.size() >= kMaxFids) return share::refuse(ENFILE);
  fids_.emplace(id, std::move(fid));
  return {};
}

share::Outcome<> FidTable::replace(uint32_t id, const Fid& before, Fid after) {
  MutexLock lock(mutex_);
  const auto found = fids_.find(id);
  if (found == fids_.end() || !found->second.same_as(before)) return share::refuse(EBUSY);
  std::swap(found->second, after);
  lock.unlock();  // before `after`, now the old fid, is destroyed, which may close a file
  return {};
}

share::Outcome<Fid> FidTable::remove(uint32_t id) {
  const MutexLock lock(mutex_);
  const auto found = fids_.extract(id);
  if (found.empty()) return share::refuse(EBADF);
  return std::move(found.mapped());
}

void FidTable::clear() {
  std::unordered_map<uint32_t, Fid> fids;
  const MutexLock lock(mutex_);
  std::swap(fids, fids_);
}

size_t FidTable::size() const {
  const MutexLock lock(mutex_);
  return fids_.size();
}

}  // namespace wick::virtio::p9
