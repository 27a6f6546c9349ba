#include "share/node_table.h"

#include <sys/sysmacros.h>

#include <utility>

namespace wick::share {

FileKey key_of(const Attributes& attributes) {
  return {.device = ::makedev(attributes.stx_dev_major, attributes.stx_dev_minor),
          .inode = attributes.stx_ino,
          .mount = attributes.stx_mnt_id};
}

NodeTable::NodeTable(Node root, size_t max_nodes)
    : root_([&] {
        root.id = kRootNode;
        return std::make_shared<const Node>(std::move(root));
      }()),
      max_nodes_(max_nodes) {}

Outcome<NodeRef> NodeTable::intern(Node node) {
  if (node.key == root_->key) return root_;
  const MutexLock lock(mutex_);
  const auto id = ids_.find(node.key);
  if (id != ids_.end()) {
    Known& known = nodes_.at(id->second);
    ++known.references;
    return known.node;
  }
  if (nodes_.size() >= max_nodes_) return refuse(ENFILE);
  const uint64_t new_id = next_id_++;
  node.id = NodeId{new_id};
  ids_.emplace(node.key, new_id);
  auto added = std::make_shared<const Node>(std::move(node));
  nodes_.emplace(new_id, Known{added, 1});
  return added;
}

Outcome<NodeRef> NodeTable::find(NodeId id) const {
  if (id == kRootNode) return root_;
  const MutexLock lock(mutex_);
  const auto found = nodes_.find(static_cast<uint64_t>(id));
  if (found == nodes_.end()) return refuse(ESTALE);
  return found->second.node;
}

Outcome<> NodeTable::add_reference(NodeId id) {
  if (id == kRootNode) return {};
  const MutexLock lock(mutex_);
  const auto found = nodes_.find(static_cast<uint64_t>(id));
  if (found == nodes_.end()) return refuse(ESTALE);
  ++found->second.references;
  return {};
}

void NodeTable::forget(NodeId id, uint64_t references) {
  NodeRef last;  // closed after the lock is released
  const MutexLock lock(mutex_);
  const auto found = nodes_.find(static_cast<uint64_t>(id));
  if (found == nodes_.end()) return;
  Known& known = found->second;
  if (references < known.references) {
    known.references -= references;
    return;
  }
  last = std::move(known.node);
  ids_.erase(last->key);
  nodes_.erase(found);
}

void NodeTable::clear() {
  std::unordered_map<uint64_t, Known> nodes;  // closed after the lock is released
  const MutexLock lock(mutex_);
  nodes.swap(nodes_);
  ids_.clear();
}

size_t NodeTable::size() const {
  const MutexLock lock(mutex_);
  return nodes_.size() + 1;
}

}  // namespace wick::share
