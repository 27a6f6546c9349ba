// The requests that create, rename and remove names of files, and Treadlink.
#include <sys/sysmacros.h>

#include "virtio/p9_execution.h"

namespace wick::virtio::p9 {

using share::Outcome;
using share::refuse;

Outcome<Session::Answer> Session::Execution::operator()(const Readlink& readlink) {
  const Fid fid = TRY(find_file(readlink.fid));
  Answer reply = answer(P9_TREADLINK);
  reply.reply.text(TRY(tree.read_link(fid.node())));
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Symlink& symlink) {
  const Fid fid = TRY(find_file(symlink.fid));
  return made(P9_TSYMLINK, tree.make_symbolic_link({fid.uid, symlink.gid}, fid.node(), symlink.name,
                                                   symlink.target));
}

Outcome<Session::Answer> Session::Execution::operator()(const Mkdir& mkdir) {
  const Fid fid = TRY(find_file(mkdir.dfid));
  return made(P9_TMKDIR, tree.make_directory({fid.uid, mkdir.gid}, fid.node(), mkdir.name,
                                             mkdir.mode & kPermissions));
}

Outcome<Session::Answer> Session::Execution::operator()(const Mknod& mknod) {
  const Fid fid = TRY(find_file(mknod.dfid));
  return made(P9_TMKNOD, tree.make_node({fid.uid, mknod.gid}, fid.node(), mknod.name,
                                        mknod.mode & (S_IFMT | kPermissions),
                                        ::makedev(mknod.major, mknod.minor)));
}

Outcome<Session::Answer> Session::Execution::made(uint8_t request_type,
                                                  Outcome<share::Entry> entry) {
  if (!entry) return refuse(entry.error());
  tree.forget(entry->node, 1);
  Answer reply = answer(request_type);
  reply.reply.qid(qid_of(entry->attributes));
  return reply;
}

Outcome<Session::Answer> Session::Execution::operator()(const Link& link) {
  const Fid directory = TRY(find_file(link.dfid));
  const Fid target = TRY(find_file(link.fid));
  const auto entry = TRY(tree.link(target.node(), directory.node(), link.name));
  tree.forget(entry.node, 1);
  return answer(P9_TLINK);
}

Outcome<Session::Answer> Session::Execution::operator()(const Renameat& rename) {
  const Fid from = TRY(find_file(rename.old_dirfid));
  const Fid to = TRY(find_file(rename.new_dirfid));
  TRY(tree.rename(from.node(), rename.old_name, to.node(), rename.new_name, 0));
  return answer(P9_TRENAMEAT);
}

Outcome<Session::Answer> Session::Execution::operator()(const Unlinkat& unlink) {
  const Fid fid = TRY(find_file(unlink.dirfid));
  if ((unlink.flags & ~P9_DOTL_AT_REMOVEDIR) != 0) return refuse(EINVAL);
  TRY(unlink.flags != 0 ? tree.remove_directory(fid.node(), unlink.name)
                        : tree.unlink(fid.node(), unlink.name));
  return answer(P9_TUNLINKAT);
}

Outcome<> Session::Execution::check_place(const Place& place) {
  if (place.directory == nullptr) return refuse(EBUSY);
  const auto entry = TRY(tree.lookup(place.directory->id(), place.name));
  const NodeReference found(tree, entry.node);
  if (found.id() != place.node->id()) return refuse(ESTALE);
  return {};
}

Outcome<Session::Answer> Session::Execution::operator()(const Rename& rename) {
  const Fid before = TRY(find_file(rename.fid));
  const Fid to = TRY(find_file(rename.dfid));
  TRY(check_place(*before.place));
  TRY(tree.rename(before.place->directory->id(), before.place->name, to.node(), rename.name, 0));
  Fid after = before;
  after.place =
      std::make_shared<const Place>(before.place->node, to.place->node, std::string(rename.name));
  // If another request has changed the fid meanwhile, the fid keeps that change.
  (void)fids.replace(rename.fid, before, std::move(after));
  return answer(P9_TRENAME);
}

// Removes the fid even if the reply is an error, as Tclunk does.
Outcome<Session::Answer> Session::Execution::operator()(const Remove& remove) {
  const Fid fid = TRY(fids.remove(remove.fid));
  if (fid.xattr != nullptr) return refuse(EINVAL);
  TRY(check_place(*fid.place));
  const auto attributes = TRY(tree.attributes(fid.node()));
  const share::NodeId directory = fid.place->directory->id();
  TRY(S_ISDIR(attributes.stx_mode) ? tree.remove_directory(directory, fid.place->name)
                                   : tree.unlink(directory, fid.place->name));
  return answer(P9_TREMOVE);
}

}  // namespace wick::virtio::p9
