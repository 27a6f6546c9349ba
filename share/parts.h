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

  // Fails with EROFS if the share is read-only.
  Outcome<> check_writable() const {
    if (options.read_only) return refuse(EROFS);
    return {};
  }
  // Returns the node of a directory in which the guest may make, change and remove entries.
  Outcome<NodeRef> changeable_directory(NodeId directory);
  // Returns the node of a file that the guest may change.
  Outcome<NodeRef> changeable(NodeId node);

  // Converts `attributes`, which the host returned for `fd`, to those that the guest sees.
  Outcome<> present(const Fd& fd, Attributes& attributes);
  Outcome<Attributes> attributes_of(const Fd& fd);
  // Makes a node of an O_PATH descriptor, which was found in `parent` by `name`. `name` is empty if
  // the file has no name, or if its name is not known.
  Outcome<Entry> enter(const Node& parent, Fd fd, std::string_view name);
  // Must be called before an entry is removed: if the guest knows the entry's node, the node stays
  // open.
  void keep_open(const Node& directory, const std::string& name);
  Outcome<Entry> lookup(const Node& directory, std::string_view name);
  Outcome<Entry> parent(const Node& directory);

  // Returns the mode with which the host makes a file that shall have `mode` in the guest.
  uint32_t host_mode(uint32_t mode) const;
  // Returns the host's IDs of a guest's user. Fails with EOVERFLOW if the user has none.
  Outcome<Caller> on_host(const Caller& caller) const;
  // Makes the thread act as `caller` with Security::kPassthrough, if wick runs as root.
  Outcome<std::optional<AssumedCaller>> assume(const Caller& caller) const;
  // Runs `make`, which creates the entry `name` of `directory`, and enters the new node. With
  // Security::kMapped it also stores who owns it.
  template <typename Make>
  Outcome<Entry> make_entry(const Caller& caller, NodeId directory, std::string_view name,
                            uint32_t mode, dev_t device, Make make);
  Outcome<OpenedFile> add_created(const Caller& caller, const Node& directory,
                                  std::string_view name, Fd fd, int flags, uint32_t mode);
  // Stores owner and mode of `fd`, which was made in `directory`. As in the kernel's
  // inode_init_owner(), a new file in a directory with the set-group-ID bit gets the directory's
  // group, and a new directory also gets the bit.
  Outcome<> store_mapped(const Caller& caller, const Fd& directory, const Fd& fd, uint32_t mode,
                         dev_t device);

  Outcome<> change_owner_and_mode(const Node& node, const AttributeChange& change);
  Outcome<> change_mapped(const Node& node, const AttributeChange& change);
  Outcome<> change_size(const Node& node, std::optional<FileId> file,
                        const AttributeChange& change);
  // Clears the set-user-ID and set-group-ID bits of a file that the guest has written.
  Outcome<> clear_mapped_privileges(const Fd& fd);

  // Returns whether the host must clear the set-user-ID and set-group-ID bits of a file that the
  // guest writes. Except with kPassthrough, it always must: no guest may write a program that runs
  // with its owner's rights on the host. If wick does not run as root, the kernel clears the bits
  // anyway.
  bool clears_privileges(bool asked_for) const {
    return wick_uid == 0 && (asked_for || options.security != Security::kPassthrough);
  }

  // Returns whether the options allow the guest to use the host's POSIX ACLs. Does not check that
  // the thread has its own umask, as Tree::has_acls() does.
  bool has_acls() const;
  // Returns whether the guest may see and set the extended attribute.
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
