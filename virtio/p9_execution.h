// The execution of the requests of a p9::Session, a function for each type. They return the
// reply, or the errno value of an Rlerror. Only the session's own files include this.
//
// Thread rule: as Session::execute().
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "virtio/p9_session.h"

namespace wick::virtio::p9 {

uint8_t qid_type(uint32_t mode);  // `mode` with the file type, as in stat(2)
inline bool may_write(int open_flags) { return (open_flags & O_ACCMODE) != O_RDONLY; }

struct Session::Execution {
  using AnswerOrError = share::Outcome<Answer>;

  Session& session;
  std::span<const iovec> writable;  // at least reply_room()
  share::Tree& tree = session.tree_;
  FidTable& fids = session.fids_;

  static Answer answer(uint8_t request_type) { return {Reply(reply_type(request_type))}; }

  // p9_session.cc
  AnswerOrError operator()(const Refused& refused) { return share::refuse(refused.error); }
  // There is no authentication, so Tattach is the first message that a client sends.
  AnswerOrError operator()(const Auth&) { return share::refuse(EOPNOTSUPP); }
  AnswerOrError operator()(const Flush&) { return share::refuse(EOPNOTSUPP); }
  AnswerOrError operator()(const Version& version);
  AnswerOrError operator()(const Attach& attach);
  AnswerOrError operator()(const Walk& walk);
  AnswerOrError operator()(const Clunk& clunk);
  // p9_data.cc
  AnswerOrError operator()(const Open& open);
  AnswerOrError operator()(const Create& create);
  AnswerOrError operator()(const Read& read);
  AnswerOrError operator()(const Write& write);
  AnswerOrError operator()(const Readdir& readdir);
  AnswerOrError operator()(const Fsync& fsync);
  AnswerOrError operator()(const Lock& lock);
  AnswerOrError operator()(const Getlock& getlock);
  // p9_attributes.cc
  AnswerOrError operator()(const Statfs& statfs);
  AnswerOrError operator()(const Getattr& getattr);
  AnswerOrError operator()(const Setattr& setattr);
  AnswerOrError operator()(const Xattrwalk& walk);
  AnswerOrError operator()(const Xattrcreate& create);
  // p9_names.cc
  AnswerOrError operator()(const Readlink& readlink);
  AnswerOrError operator()(const Symlink& symlink);
  AnswerOrError operator()(const Mkdir& mkdir);
  AnswerOrError operator()(const Mknod& mknod);
  AnswerOrError operator()(const Link& link);
  AnswerOrError operator()(const Renameat& rename);
  AnswerOrError operator()(const Unlinkat& unlink);
  AnswerOrError operator()(const Rename& rename);
  AnswerOrError operator()(const Remove& remove);

 private:
  static constexpr uint32_t kPermissions = 07777;

  // A fid that is a file, open or not.
  share::Outcome<Fid> find_file(uint32_t id);
  share::Outcome<Fid> find_open(uint32_t id);
  // Goes from a directory to one of its files.
  share::Outcome<Qid> descend(Place& place, std::string_view name);
  // Checks that the name is still that of the file.
  share::Outcome<> check_place(const Place& place);
  // The reply with the qid of a new file, of which the client has no fid yet.
  AnswerOrError made(uint8_t request_type, share::Outcome<share::Entry> entry);
  // The maximum size of data in a reply of Tread or Treaddir with this count.
  size_t max_data_bytes(uint32_t count) const {
    return std::min<size_t>(
        {count, session.msize_ - kIoHeaderBytes, total_bytes(writable) - kIoHeaderBytes});
  }
};

}  // namespace wick::virtio::p9
