// The files and directories of a share that the guest has open.
//
// Thread rule: any thread may call any function.
#pragma once

#include <memory>
#include <optional>
#include <unordered_map>

#include "base/mutex.h"
#include "share/directory_reader.h"
#include "share/node_table.h"

namespace wick::share {

struct OpenFile {
  // The constant properties of the file's node. The node itself is not kept, because that would
  // keep its descriptor open, and a guest may have many files open.
  NodeId node{};
  FileKey key;
  bool kernel_interface = false;
  Fd fd;
  bool writable = false;
  std::unique_ptr<DirectoryReader> directory;  // nullptr: a regular file
};
// Keeps the file's descriptor open as long as an operation needs it.
using OpenFileRef = std::shared_ptr<const OpenFile>;

class OpenFiles {
 public:
  explicit OpenFiles(size_t max_files) : max_files_(max_files) {}

  Outcome<FileId> add(OpenFile file) EXCLUDES(mutex_);          // fails with ENFILE
  Outcome<OpenFileRef> find(FileId id) const EXCLUDES(mutex_);  // fails with EBADF
  void remove(FileId id) EXCLUDES(mutex_);
  void clear() EXCLUDES(mutex_);
  size_t size() const EXCLUDES(mutex_);

 private:
  const size_t max_files_;
  mutable Mutex mutex_;
  std::unordered_map<uint64_t, OpenFileRef> files_ GUARDED_BY(mutex_);
  uint64_t next_id_ GUARDED_BY(mutex_) = 1;
};

}  // namespace wick::share
