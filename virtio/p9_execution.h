// The execution of the requests of a p9::Session: one function for each type of request. Each
// function returns the reply, or the errno value for an Rlerror. Only the session's own files
// include this file.
//
// Thread rule: as for Session::execute().
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "virtio/p9_session.h"

namespace wick::virtio::p9 {

uint8_t qid_type(uint32_t mode);  // `mode` includes the file type, as in stat(2)
inline bool may_write(int open_flags) { return (open_flags & O_ACCMODE) != O_RDONLY; }

struct Session::Execution {
  using AnswerOrError = share::Outcome<Answer>;

  Session& session;
  std::span<const iovec> writable;  // has at least reply_room() bytes
  share::Tree& tree = session.tree_;
  FidTable& fids = session.fids_;

  static Answer answer(uint8_t request_type) { return {Reply(reply_type(request_type))}; }

  // p9_session.cc
  AnswerOrError operator()(const Refused& refused) { return share::refuse(refused.error); }
  // Tauth fails, because there is no authentication: a client sends Tattach right after Tversion.
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

  // Returns a fid that refers to a file, open or not. EINVAL for a fid of an extended attribute.
  share::Outcome<Fid> find_file(uint32_t id);
  // Returns a fid that refers to an open file. EBADF if the file is not open.
  share::Outcome<Fid> find_open(uint32_t id);
  // Changes `place` from a directory to the file `name` in it, and returns the file's qid.
  share::Outcome<Qid> descend(Place& place, std::string_view name);
  // Checks that the file still has the name by which the client found it.
  share::Outcome<> check_place(const Place& place);
  // Returns the reply with the qid of a new file. The client gets no fid for the file.
  AnswerOrError made(uint8_t request_type, share::Outcome<share::Entry> entry);
  // Returns the maximum size of the data in the reply to a Tread or Treaddir with this `count`.
  size_t max_data_bytes(uint32_t count) const {
    return std::min<size_t>(
        {count, session.msize_ - kIoHeaderBytes, total_bytes(writable) - kIoHeaderBytes});
  }
};

}  // namespace wick::virtio::p9
