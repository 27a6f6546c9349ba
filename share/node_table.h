// The nodes of a share that the guest knows, with their references.
//
// Thread rule: any thread may call any function.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>

#include "base/fd.h"
#include "base/mutex.h"
#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

// What makes a file on the host the same one. While a node has its descriptor, the host
// cannot give the inode number to another file. The mount is part of it because the same
// directory may be mounted twice, with another parent.
struct FileKey {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t mount = 0;
  auto operator<=>(const FileKey&) const = default;
};
FileKey key_of(const Attributes& attributes);

struct Node {
  NodeId id{};
  FileKey key;
  uint32_t type = 0;  // on the host: S_IFREG, ...
  bool kernel_interface = false;
  Fd fd;  // O_PATH

  bool is_directory() const { return type == S_IFDIR; }
  bool is_regular() const { return type == S_IFREG; }
};
// Keeps the descriptor open as long as an operation needs it.
using NodeRef = std::shared_ptr<const Node>;

class NodeTable {
 public:
  // `root` gets the id kRootNode.
  NodeTable(Node root, size_t max_nodes);

  // Adds a reference to the node with the key of `node`, which is `node` itself if there is none
  // yet. ENFILE if there are too many.
  Outcome<NodeRef> intern(Node node) EXCLUDES(mutex_);
  Outcome<NodeRef> find(NodeId id) const EXCLUDES(mutex_);  // ESTALE
  NodeRef root() const { return root_; }
  Outcome<> add_reference(NodeId id) EXCLUDES(mutex_);  // ESTALE
  void forget(NodeId id, uint64_t references) EXCLUDES(mutex_);
  void clear() EXCLUDES(mutex_);  // all but the root
  size_t size() const EXCLUDES(mutex_);

 private:
  struct Known {
    NodeRef node;
    uint64_t references = 0;
  };

  // Constant after construction.
  const NodeRef root_;
  const size_t max_nodes_;

  mutable Mutex mutex_;
  std::unordered_map<uint64_t, Known> nodes_ GUARDED_BY(mutex_);  // by id, without the root
  std::map<FileKey, uint64_t> ids_ GUARDED_BY(mutex_);
  uint64_t next_id_ GUARDED_BY(mutex_) = static_cast<uint64_t>(kRootNode) + 1;
};

}  // namespace wick::share
