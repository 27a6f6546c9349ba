#include "virtio/p9_session.h"

#include <algorithm>

#include "virtio/p9_execution.h"

namespace wick::virtio::p9 {

using share::Outcome;
using share::refuse;

namespace {

constexpr std::string_view kVersion = "9P2000.L";

}  // namespace

Outcome<Session::Answer> Session::Execution::operator()(const Version& version) {
  session.reset();
  if (version.msize < kMinMessageBytes) return refuse(EMSGSIZE);
  session.msize_ = std::min(version.msize, kMaxMessageBytes);
  session.negotiated_ = version.version == kVersion;
  Answer reply = answer(P9_TVERSION);
  reply.reply.u32(session.msize_).text(session.negotiated_ ? kVersion : "unknown");
  return reply;
}

// `aname` is the path of a folder, relative to the root of the share.
Outcome<Session::Answer> Session::Execution::operator()(const Attach& attach) {
  if (!session.negotiated_) return refuse(EPROTO);
  if (attach.afid != P9_NOFID) return refuse(EINVAL);
  Place place = {std::make_shared<NodeReference>(tree, share::kRootNode), nullptr, ""};
  std::string_view rest = attach.aname;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('/'), rest.size());
    if (end > 0) TRY(descend(place, rest.substr(0, end)));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const auto attributes = TRY(tree.attributes(place.node->id()));
  if (!S_ISDIR(attributes.stx_mode)) return refuse(ENOTDIR);
  // For the user who mounts the share, Linux sends no number; this user is root.
  const uint32_t uid = attach.n_uname == P9_NONUNAME ? 0 : attach.n_uname;
  TRY(fids.add(attach.fid, {std::make_shared<const Place>(std::move(place)), uid, {}, {}}));
  Answer reply = answer(P9_TATTACH);
  reply.reply.qid(qid_of(attributes));
  return reply;
}

// Walks as far as the files exist. The new fid is created only if the walk reaches the last name.
Outcome<Session::Answer> Session::Execution::operator()(const Walk& walk) {
  const Fid from = TRY(find_file(walk.fid));
  if (walk.fid == walk.new_fid && from.file != nullptr) return refuse(EBUSY);
  Fid to = {from.place, from.uid, nullptr, nullptr};
  std::vector<Qid> qids;
  if (!walk.names.empty()) {
    Place place = *from.place;
    for (const std::string_view name : walk.names) {
      const auto found = descend(place, name);
      if (!found && qids.empty()) return refuse(found.error());
      if (!found) break;
      qids.push_back(*found);
    }
    to.place = std::make_shared<const Place>(std::move(place));
  }
  if (qids.size() == walk.names.size())
    TRY(walk.fid == walk.new_fid ? fids.replace(walk.fid, from, std::move(to))
                                 : fids.add(walk.new_fid, std::move(to)));
  Answer reply = answer(P9_TWALK);
  reply.reply.u16(static_cast<uint16_t>(qids.size()));
  for (const Qid& qid : qids) reply.reply.qid(qid);
  return reply;
}

// Removes the fid even if the reply is an error.
Outcome<Session::Answer> Session::Execution::operator()(const Clunk& clunk) {
  const Fid fid = TRY(fids.remove(clunk.fid));
  if (fid.file != nullptr && may_write(fid.file->flags())) TRY(tree.flush(fid.file->id()));
  if (fid.xattr != nullptr && fid.xattr->writable()) TRY(fid.xattr->set(tree, fid.node()));
  return answer(P9_TCLUNK);
}

Outcome<Fid> Session::Execution::find_file(uint32_t id) {
  Fid fid = TRY(fids.find(id));
  if (fid.xattr != nullptr) return refuse(EINVAL);
  return fid;
}

Outcome<Fid> Session::Execution::find_open(uint32_t id) {
  Fid fid = TRY(find_file(id));
  if (fid.file == nullptr) return refuse(EBADF);
  return fid;
}

Outcome<Qid> Session::Execution::descend(Place& place, std::string_view name) {
  const auto entry = TRY(tree.lookup(place.node->id(), name));
  auto node = std::make_shared<NodeReference>(tree, entry.node);
  if (name == "." || name == "..")
    place = {std::move(node), nullptr, ""};
  else
    place = {std::move(node), std::move(place.node), std::string(name)};
  return qid_of(entry.attributes);
}

size_t Session::execute(const Request& request, std::span<const iovec> writable) {
  const size_t room = total_bytes(writable);
  if (room < kErrorBytes) return 0;
  Outcome<Answer> answer = room < reply_room(request.body)
                               ? refuse(EMSGSIZE)
                               : std::visit(Execution{*this, writable}, request.body);
  if (answer && answer->reply.size_bytes() + answer->data_bytes > room) answer = refuse(EMSGSIZE);
  if (!answer) answer = Answer{Reply::error(answer.error())};
  BufferCursor(writable).write(answer->reply.finish(request.tag, answer->data_bytes));
  return answer->reply.size_bytes() + answer->data_bytes;
}

void Session::reset() {
  fids_.clear();
  tree_.reset();
  negotiated_ = false;
  msize_ = kMaxMessageBytes;
}

}  // namespace wick::virtio::p9
