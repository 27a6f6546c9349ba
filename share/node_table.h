// The nodes of a share that the guest knows, with their references. The guest may know more nodes
// than the process can have descriptors. So nodes that were not used for the longest time are
// closed, and opened anew by their path below the root when they are used again.
//
// Thread rule: any thread may call any function.
#pragma once

#include <linux/stat.h>

#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "base/mutex.h"
#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

// Identifies a file on the host. While a node has its descriptor, the host cannot give the inode
// number to another file. The mount is a part of the key because the same directory may be mounted
// twice, with another parent.
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
  // The time when the file was created, in nanoseconds; 0 if the host does not know it. Another
  // file that got the same inode number has another time.
  int64_t birth_ns = 0;
  bool kernel_interface = false;
  Fd fd;  // an O_PATH descriptor

  bool is_directory() const { return type == S_IFDIR; }
  bool is_regular() const { return type == S_IFREG; }
};
Node node_of(const Attributes& attributes, bool kernel_interface, Fd fd);
// Keeps the node's descriptor open as long as an operation needs it.
using NodeRef = std::shared_ptr<const Node>;

class NodeTable {
 public:
  // `root` gets the id kRootNode. At most `max_open` nodes have a descriptor.
  NodeTable(Node root, size_t max_nodes, size_t max_open);

  // Adds a reference to the node that has the key of `node`, and returns that node. If the table
  // has no such node, adds `node`. `node` was found in `parent` by `name`. Without a name the node
  // cannot be found again, so its descriptor stays open. Fails with ENFILE if there are too many
  // nodes.
  Outcome<NodeRef> intern(Node node, NodeId parent, std::string_view name) EXCLUDES(mutex_);
  // Returns a node, and opens it again if it was closed. Fails with ESTALE if there is no such
  // node, or if the host has moved or removed the file of a closed node.
  Outcome<NodeRef> find(NodeId id) EXCLUDES(mutex_);
  NodeRef root() const { return root_; }
  Outcome<> add_reference(NodeId id) EXCLUDES(mutex_);  // fails with ESTALE
  void forget(NodeId id, uint64_t references) EXCLUDES(mutex_);
  void clear() EXCLUDES(mutex_);  // forgets all nodes but the root
  size_t size() const EXCLUDES(mutex_);
  size_t open_count() const EXCLUDES(mutex_);

  // Must be called before an entry of the file is removed. If the guest knows the file, its node
  // stays open from now on.
  void keep_open(const FileKey& key) EXCLUDES(mutex_);
  // Must be called after the guest has moved or linked the file, to record its new place.
  void move(const FileKey& key, NodeId parent, std::string_view name) EXCLUDES(mutex_);

 private:
  // A name in a directory. The table may have forgotten the directory's own node.
  struct Place {
    Place() = default;
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place();  // a loop, not a recursion over the parents

    std::shared_ptr<Place> parent;  // nullptr: the root
    std::string name;
  };
  struct Known {
    NodeRef node;  // nullptr: closed
    FileKey key;
    uint32_t type = 0;
    int64_t birth_ns = 0;
    bool kernel_interface = false;
    uint64_t references = 0;
    std::shared_ptr<Place> place;        // nullptr: unknown, so the node stays open
    std::list<uint64_t>::iterator used;  // the place in recent_, if the node may be closed
    bool stays_open = false;
  };

  Known* known(NodeId id) REQUIRES(mutex_);
  bool place_of(NodeId directory, std::shared_ptr<Place>& place) REQUIRES(mutex_);
  void set_place(Known& known, NodeId parent, std::string_view name) REQUIRES(mutex_);
  void set_node(uint64_t id, Known& known, NodeRef node) REQUIRES(mutex_);
  void keep_open(Known& known) REQUIRES(mutex_);
  void remove(uint64_t id) REQUIRES(mutex_);
  // If too many nodes are open, closes the one that was not used for the longest time, and returns
  // it: the caller must destroy it after it has released the lock. Fails with ENFILE if all open
  // nodes must stay open.
  Outcome<NodeRef> make_room() REQUIRES(mutex_);
  Outcome<std::vector<std::string>> names_of(const Place* place) const REQUIRES(mutex_);
  Outcome<NodeRef> open_again(NodeId id) EXCLUDES(mutex_);

  // Constant after construction.
  const NodeRef root_;
  const size_t max_nodes_;
  const size_t max_open_;

  mutable Mutex mutex_;
  std::unordered_map<uint64_t, Known> nodes_ GUARDED_BY(mutex_);  // by their ids; without the root
  std::map<FileKey, uint64_t> ids_ GUARDED_BY(mutex_);
  // The open nodes that may be closed, by their ids; the last was not used for the longest time.
  std::list<uint64_t> recent_ GUARDED_BY(mutex_);
  size_t open_ GUARDED_BY(mutex_) = 0;
  uint64_t next_id_ GUARDED_BY(mutex_) = static_cast<uint64_t>(kRootNode) + 1;
};

}  // namespace wick::share
