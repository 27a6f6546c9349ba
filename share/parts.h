// What the operations of share::Tree have in common. Only share/ includes this file.
#pragma once

#include "base/mutex.h"
#include "share/credentials.h"
#include "share/host_calls.h"
#include "share/inode_numbers.h"
#include "share/mapped_stat.h"
#include "share/node_table.h"
#include "share/open_files.h"
#include "share/record_locks.h"
#include "share/tree.h"

namespace wick::share {

struct Tree::Parts {
  Parts(const TreeOptions& chosen, Node root, size_t max_nodes, size_t max_open_nodes,
        size_t max_files, size_t max_lock_owners)
      : options(chosen),
        wick_uid(::geteuid()),
        wick_gid(::getegid()),
        numbers(root.key.device),
        nodes(std::move(root), max_nodes, max_open_nodes),
        files(max_files),
        locks(max_lock_owners) {}

  // EROFS if the guest may change nothing.
  Outcome<> check_writable() const {
    if (options.read_only) return refuse(EROFS);
    return {};
  }
  // The node of a directory in which the guest may make, change and remove entries.
  Outcome<NodeRef> changeable_directory(NodeId directory);
  // The node of a file that the guest may change.
  Outcome<NodeRef> changeable(NodeId node);

  // Changes the host's attributes of `fd` to those that the guest sees.
  Outcome<> present(const Fd& fd, Attributes& attributes);
  Outcome<Attributes> attributes_of(const Fd& fd);
  // Makes a node of an O_PATH descriptor, which was found in `parent` by `name`. Empty: it has no
  // name, or none that is known.
  Outcome<Entry> enter(const Node& parent, Fd fd, std::string_view name);
  // The entry is about to be removed: a node that the guest knows must be open then.
  void keep_open(const Node& directory, const std::string& name);
  Outcome<Entry> lookup(const Node& directory, std::string_view name);
  Outcome<Entry> parent(const Node& directory);

  // The mode with which the host makes a file that shall have `mode` in the guest.
  uint32_t host_mode(uint32_t mode) const;
  // The host's IDs of a guest's user; EOVERFLOW if it has none.
  Outcome<Caller> on_host(const Caller& caller) const;
  // Makes the thread act as `caller`, if the share's security model is so.
  Outcome<std::optional<AssumedCaller>> assume(const Caller& caller) const;
  // Runs `make`, which creates the entry `name` of `directory`, and enters the new node. With
  // Security::kMapped it also stores who owns it.
  template <typename Make>
  Outcome<Entry> make_entry(const Caller& caller, NodeId directory, std::string_view name,
                            uint32_t mode, dev_t device, Make make);
  Outcome<OpenedFile> add_created(const Caller& caller, const Node& directory,
                                  std::string_view name, Fd fd, int flags, uint32_t mode);
  Outcome<> store_mapped(const Caller& caller, const Fd& fd, uint32_t mode, dev_t device);

  Outcome<> change_owner_and_mode(const Node& node, const AttributeChange& change);
  Outcome<> change_mapped(const Node& node, const AttributeChange& change);
  Outcome<> change_size(const Node& node, std::optional<FileId> file,
                        const AttributeChange& change);
  // Clears the set-user-ID and set-group-ID bits of a file that the guest has written.
  Outcome<> clear_mapped_privileges(const Fd& fd);

  // Whether the host must clear these bits when the guest writes a file. Except with
  // kPassthrough a guest never writes a program that runs with its owner's rights on the host.
  bool clears_privileges(bool asked_for) const {
    return wick_uid == 0 && (asked_for || options.security != Security::kPassthrough);
  }

  // True if the guest may use the host's POSIX ACLs (Tree::has_acls()).
  bool has_acls() const;
  // True if the guest may see and set the extended attribute.
  bool shows_xattr(std::string_view name) const;

  const TreeOptions options;
  const uint32_t wick_uid;
  const uint32_t wick_gid;
  InodeNumbers numbers;
  NodeTable nodes;
  OpenFiles files;
  RecordLocks locks;
  Mutex mapped_mutex;  // held between reading and writing a mapped attribute
};

}  // namespace wick::share
