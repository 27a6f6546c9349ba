#include "share/open_files.h"

#include <utility>

namespace wick::share {

Outcome<FileId> OpenFiles::add(OpenFile file) {
  auto added = std::make_shared<const OpenFile>(std::move(file));
  const MutexLock lock(mutex_);
  if (files_.size() >= max_files_) return refuse(ENFILE);
  const uint64_t id = next_id_++;
  files_.emplace(id, std::move(added));
  return FileId{id};
}

Outcome<OpenFileRef> OpenFiles::find(FileId id) const {
  const MutexLock lock(mutex_);
  const auto found = files_.find(static_cast<uint64_t>(id));
  if (found == files_.end()) return refuse(EBADF);
  return found->second;
}

void OpenFiles::remove(FileId id) {
  OpenFileRef last;  // closed after the lock is released
  const MutexLock lock(mutex_);
  const auto found = files_.find(static_cast<uint64_t>(id));
  if (found == files_.end()) return;
  last = std::move(found->second);
  files_.erase(found);
}

void OpenFiles::clear() {
  std::unordered_map<uint64_t, OpenFileRef> files;  // closed after the lock is released
  const MutexLock lock(mutex_);
  files.swap(files_);
}

size_t OpenFiles::size() const {
  const MutexLock lock(mutex_);
  return files_.size();
}

}  // namespace wick::share
