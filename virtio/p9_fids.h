// The fids of a 9P client. A fid is a number that the client has chosen for a file of a share, open
// or not, or for an extended attribute that it reads or writes.
//
// Specification: Plan 9, intro(5), "Fids".
//
// Thread rule: any thread may call anything at any time. A Fid is a value with shared pointers: a
// request that uses a fid keeps the file open even if the client drops the fid meanwhile.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "share/tree.h"

namespace wick::virtio::p9 {

// A reference to a node of the tree. The destructor gives the reference back.
class NodeReference {
 public:
  NodeReference(share::Tree& tree, share::NodeId id) : tree_(tree), id_(id) {}
  ~NodeReference() {
    if (id_ != share::kRootNode) tree_.forget(id_, 1);
  }
  NodeReference(const NodeReference&) = delete;
  NodeReference& operator=(const NodeReference&) = delete;
  share::NodeId id() const { return id_; }

 private:
  share::Tree& tree_;
  const share::NodeId id_;
};

// Where the client has found a file. Tremove and Trename need the name. The name may be outdated,
// because other programs and requests can rename the file.
struct Place {
  std::shared_ptr<const NodeReference> node;
  std::shared_ptr<const NodeReference> directory;  // nullptr: unknown, as for the root
  std::string name;
};

// An open file or directory. The destructor closes it and releases the locks that were made with
// it.
class OpenFile {
 public:
  static constexpr size_t kMaxLockOwners = 64;  // the maximum for one open file

  OpenFile(share::Tree& tree, share::FileId id, std::shared_ptr<const NodeReference> node,
           int flags)
      : tree_(tree), id_(id), node_(std::move(node)), flags_(flags) {}
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  share::FileId id() const { return id_; }
  int flags() const { return flags_; }
  // Remembers that `owner` may have locks.
  enum class LockOwner : uint8_t { kNew, kKnown, kTooMany };
  LockOwner add_lock_owner(uint64_t owner) EXCLUDES(mutex_);
  // Forgets `owner`, because it has no lock on the file.
  void remove_lock_owner(uint64_t owner) EXCLUDES(mutex_);

 private:
  share::Tree& tree_;
  const share::FileId id_;
  const std::shared_ptr<const NodeReference> node_;
  const int flags_;  // the flags of Tlopen or Tlcreate
  Mutex mutex_;
  std::vector<uint64_t> lock_owners_ GUARDED_BY(mutex_);
};

// The value of an extended attribute. Either Tread reads the value, or Twrite collects a new value
// and Tclunk then sets the attribute. The values of all fids share a budget.
class XattrValue {
 public:
  // Takes `value.size()` bytes off `budget_bytes`; the destructor gives them back. Returns nullptr
  // if the budget has fewer bytes.
  static std::shared_ptr<XattrValue> to_read(std::vector<std::byte> value,
                                             std::atomic<size_t>& budget_bytes);
  // Takes `size_bytes` off the budget in the same way, for a value that the client will write.
  // `flags` are those of setxattr(2).
  static std::shared_ptr<XattrValue> to_write(std::string name, size_t size_bytes, int flags,
                                              std::atomic<size_t>& budget_bytes);
  ~XattrValue() { budget_bytes_ += taken_bytes_; }
  XattrValue(const XattrValue&) = delete;
  XattrValue& operator=(const XattrValue&) = delete;

  bool writable() const { return writable_; }
  size_t read(uint64_t offset, std::span<const iovec> to) EXCLUDES(mutex_);
  // Fails with EINVAL unless the client writes the value in order, from its beginning.
  share::Outcome<size_t> write(uint64_t offset, std::span<const iovec> from) EXCLUDES(mutex_);
  // Sets the attribute of `node`. Fails with EINVAL if the client has not written the whole value.
  share::Outcome<> set(share::Tree& tree, share::NodeId node) EXCLUDES(mutex_);

 private:
  XattrValue(std::atomic<size_t>& budget_bytes, size_t taken_bytes)
      : budget_bytes_(budget_bytes), taken_bytes_(taken_bytes) {}

  std::atomic<size_t>& budget_bytes_;
  const size_t taken_bytes_;
  bool writable_ = false;
  std::string name_;
  int flags_ = 0;
  Mutex mutex_;
  std::vector<std::byte> value_ GUARDED_BY(mutex_);
  size_t written_bytes_ GUARDED_BY(mutex_) = 0;
};

struct Fid {
  std::shared_ptr<const Place> place;
  uint32_t uid = 0;                   // the user who attached (Tattach)
  std::shared_ptr<OpenFile> file;     // nullptr: not open
  std::shared_ptr<XattrValue> xattr;  // nullptr: not an extended attribute

  share::NodeId node() const { return place->node->id(); }
  bool same_as(const Fid& other) const {
    return place == other.place && file == other.file && xattr == other.xattr;
  }
};

class FidTable {
 public:
  static constexpr size_t kMaxFids = 256 << 10;

  // Fails with EBADF if there is no such fid.
  share::Outcome<Fid> find(uint32_t id) const EXCLUDES(mutex_);
  // Fails with EEXIST if the id is in use, and with ENFILE if there are kMaxFids fids.
  share::Outcome<> add(uint32_t id, Fid fid) EXCLUDES(mutex_);
  // Replaces `before`, which find() has returned, by `after`. Fails with EBUSY if another request
  // has changed the fid since.
  share::Outcome<> replace(uint32_t id, const Fid& before, Fid after) EXCLUDES(mutex_);
  // Fails with EBADF if there is no such fid.
  share::Outcome<Fid> remove(uint32_t id) EXCLUDES(mutex_);
  void clear() EXCLUDES(mutex_);
  size_t size() const EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_;
  std::unordered_map<uint32_t, Fid> fids_ GUARDED_BY(mutex_);
};

}  // namespace wick::virtio::p9
