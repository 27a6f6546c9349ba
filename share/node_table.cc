#include "share/node_table.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <utility>

#include "share/host_calls.h"

namespace wick::share {

namespace {

bool same_file(const Node& node, const FileKey& key, uint32_t type, int64_t birth_ns) {
  return node.key == key && node.type == type && node.birth_ns == birth_ns;
}

}  // namespace

FileKey key_of(const Attributes& attributes) {
  return {.device = ::makedev(attributes.stx_dev_major, attributes.stx_dev_minor),
          .inode = attributes.stx_ino,
          .mount = attributes.stx_mnt_id};
}

Node node_of(const Attributes& attributes, bool kernel_interface, Fd fd) {
  constexpr int64_t kPerSecond = 1'000'000'000;
  const bool has_birth = (attributes.stx_mask & STATX_BTIME) != 0;
  return {.id = {},
          .key = key_of(attributes),
          .type = attributes.stx_mode & uint32_t{S_IFMT},
          .birth_ns = has_birth ? attributes.stx_btime.tv_sec * kPerSecond +
                                      static_cast<int64_t>(attributes.stx_btime.tv_nsec)
                                : 0,
          .kernel_interface = kernel_interface,
          .fd = std::move(fd)};
}

NodeTable::Place::~Place() {
  while (parent != nullptr && parent.use_count() == 1) {
    std::shared_ptr<Place> next = std::move(parent->parent);
    parent = std::move(next);
  }
}

NodeTable::NodeTable(Node root, size_t max_nodes, size_t max_open)
    : root_([&] {
        root.id = kRootNode;
        return std::make_shared<const Node>(std::move(root));
      }()),
      max_nodes_(max_nodes),
      max_open_(max_open) {}

// --- under the lock ---

NodeTable::Known* NodeTable::known(NodeId id) {
  const auto found = nodes_.find(static_cast<uint64_t>(id));
  return found == nodes_.end() ? nullptr : &found->second;
}

// Finds the place of a directory. Returns false if the place is not known.
bool NodeTable::place_of(NodeId directory, std::shared_ptr<Place>& place) {
  if (directory == kRootNode) return true;
  const Known* const parent = known(directory);
  if (parent == nullptr || parent->place == nullptr) return false;
  place = parent->place;
  return true;
}

// Changes the node's Place object itself, because the Places of a directory's children point to it.
void NodeTable::set_place(Known& known, NodeId parent, std::string_view name) {
  std::shared_ptr<Place> above;
  if (name.empty() || !place_of(parent, above) || (above != nullptr && above == known.place))
    return;
  if (known.place == nullptr) known.place = std::make_shared<Place>();
  known.place->parent = std::move(above);
  known.place->name = name;
}

void NodeTable::keep_open(Known& known) {
  if (known.stays_open) return;
  known.stays_open = true;
  if (known.node != nullptr) recent_.erase(known.used);
}

// Makes `node` the open node of `known`, which was closed or is new.
void NodeTable::set_node(uint64_t id, Known& known, NodeRef node) {
  known.node = std::move(node);
  ++open_;
  if (known.place == nullptr) known.stays_open = true;
  if (!known.stays_open) known.used = recent_.insert(recent_.begin(), id);
}

void NodeTable::remove(uint64_t id) {
  Known& known = nodes_.at(id);
  if (known.node != nullptr) {
    --open_;
    if (!known.stays_open) recent_.erase(known.used);
  }
  const auto by_key = ids_.find(known.key);
  if (by_key != ids_.end() && by_key->second == id) ids_.erase(by_key);
  nodes_.erase(id);
}

Outcome<NodeRef> NodeTable::make_room() {
  if (open_ < max_open_) return NodeRef();
  if (recent_.empty()) return refuse(ENFILE);
  Known& oldest = nodes_.at(recent_.back());
  recent_.pop_back();
  --open_;
  return std::exchange(oldest.node, nullptr);
}

Outcome<std::vector<std::string>> NodeTable::names_of(const Place* place) const {
  // Directories that the host moves while the guest looks at them may seem to contain each other.
  constexpr size_t kMaxDepth = 2048;
  std::vector<std::string> names;
  for (; place != nullptr; place = place->parent.get()) {
    if (names.size() == kMaxDepth) return refuse(ESTALE);
    names.push_back(place->name);
  }
  std::ranges::reverse(names);
  return names;
}

// --- without the lock ---

Outcome<NodeRef> NodeTable::intern(Node node, NodeId parent, std::string_view name) {
  if (node.key == root_->key) return root_;
  NodeRef closed;  // destroyed after the lock is released
  const MutexLock lock(mutex_);
  const auto by_key = ids_.find(node.key);
  if (by_key != ids_.end()) {
    const uint64_t id = by_key->second;
    Known& known = nodes_.at(id);
    const bool was_open = known.node != nullptr;
    if (was_open || same_file(node, known.key, known.type, known.birth_ns)) {
      set_place(known, parent, name);
      if (!was_open) {
        closed = TRY(make_room());
        node.id = NodeId{id};
        set_node(id, known, std::make_shared<const Node>(std::move(node)));
      } else if (!known.stays_open) {
        recent_.splice(recent_.begin(), recent_, known.used);
      }
      ++known.references;
      return known.node;
    }
    ids_.erase(by_key);  // the file is gone, and the host has used its inode number again
  }
  if (nodes_.size() >= max_nodes_) return refuse(ENFILE);
  closed = TRY(make_room());
  const uint64_t id = next_id_++;
  node.id = NodeId{id};
  Known& known = nodes_[id];
  known.key = node.key;
  known.type = node.type;
  known.birth_ns = node.birth_ns;
  known.kernel_interface = node.kernel_interface;
  known.references = 1;
  set_place(known, parent, name);
  ids_.emplace(node.key, id);
  NodeRef open = std::make_shared<const Node>(std::move(node));
  set_node(id, known, open);
  return open;
}

Outcome<NodeRef> NodeTable::find(NodeId id) {
  if (id == kRootNode) return root_;
  {
    const MutexLock lock(mutex_);
    Known* const found = known(id);
    if (found == nullptr) return refuse(ESTALE);
    if (found->node != nullptr) {
      if (!found->stays_open) recent_.splice(recent_.begin(), recent_, found->used);
      return found->node;
    }
  }
  return open_again(id);
}

Outcome<NodeRef> NodeTable::open_again(NodeId id) {
  std::vector<std::string> names;
  bool kernel_interface = false;
  {
    const MutexLock lock(mutex_);
    const Known* const found = known(id);
    if (found == nullptr) return refuse(ESTALE);
    names = TRY(names_of(found->place.get()));
    kernel_interface = found->kernel_interface;
  }
  Fd fd = TRY(open_path(root_->fd, names));
  const Attributes attributes = TRY(stat_of(fd));
  Node node = node_of(attributes, kernel_interface, std::move(fd));
  node.id = id;

  NodeRef closed;  // destroyed after the lock is released
  const MutexLock lock(mutex_);
  Known* const found = known(id);
  if (found == nullptr) return refuse(ESTALE);
  if (found->node != nullptr) return found->node;  // another thread has opened it
  if (!same_file(node, found->key, found->type, found->birth_ns)) return refuse(ESTALE);
  closed = TRY(make_room());
  NodeRef open = std::make_shared<const Node>(std::move(node));
  set_node(static_cast<uint64_t>(id), *found, open);
  return open;
}

Outcome<> NodeTable::add_reference(NodeId id) {
  if (id == kRootNode) return {};
  const MutexLock lock(mutex_);
  Known* const found = known(id);
  if (found == nullptr) return refuse(ESTALE);
  ++found->references;
  return {};
}

void NodeTable::forget(NodeId id, uint64_t references) {
  NodeRef last;  // closed after the lock is released
  const MutexLock lock(mutex_);
  Known* const found = known(id);
  if (found == nullptr) return;
  if (references < found->references) {
    found->references -= references;
    return;
  }
  last = found->node;
  remove(static_cast<uint64_t>(id));
}

void NodeTable::keep_open(const FileKey& key) {
  NodeId id{};
  {
    const MutexLock lock(mutex_);
    const auto by_key = ids_.find(key);
    if (by_key == ids_.end()) return;
    id = NodeId{by_key->second};
  }
  const auto open = find(id);
  if (!open) return;
  NodeRef closed;  // destroyed after the lock is released
  const MutexLock lock(mutex_);
  Known* const found = known(id);
  if (found == nullptr) return;
  if (found->node == nullptr) {
    auto room = make_room();
    if (!room) return;
    closed = *std::move(room);
    set_node(static_cast<uint64_t>(id), *found, *open);
  }
  keep_open(*found);
}

void NodeTable::move(const FileKey& key, NodeId parent, std::string_view name) {
  const MutexLock lock(mutex_);
  const auto by_key = ids_.find(key);
  if (by_key != ids_.end()) set_place(nodes_.at(by_key->second), parent, name);
}

void NodeTable::clear() {
  std::unordered_map<uint64_t, Known> nodes;  // closed after the lock is released
  const MutexLock lock(mutex_);
  nodes.swap(nodes_);
  ids_.clear();
  recent_.clear();
  open_ = 0;
}

size_t NodeTable::size() const {
  const MutexLock lock(mutex_);
  return nodes_.size() + 1;
}

size_t NodeTable::open_count() const {
  const MutexLock lock(mutex_);
  return open_ + 1;
}

}  // namespace wick::share
