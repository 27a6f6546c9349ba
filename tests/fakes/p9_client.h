// A client of 9P2000.L, which sends one request after the other and returns what the server
// answers: a value, or the error of an Rlerror.
//
// Thread rule: one thread.
#pragma once

#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "share/outcome.h"
#include "virtio/p9_message.h"

namespace wick::fakes {

class P9Client {
 public:
  using Message = virtio::p9::Reply;  // requests have the same header
  using Qid = virtio::p9::Qid;
  template <typename T = void>
  using Outcome = share::Outcome<T>;

  // Sends a request, and returns the reply, which has at most `room` bytes.
  using Transport = std::function<std::string(const std::string& request, size_t room)>;

  // The fields of a reply, one after the other. Past the end they are 0.
  class Fields {
   public:
    explicit Fields(std::string bytes) : bytes_(std::move(bytes)) {}
    uint8_t u8() { return integer<uint8_t>(); }
    uint16_t u16() { return integer<uint16_t>(); }
    uint32_t u32() { return integer<uint32_t>(); }
    uint64_t u64() { return integer<uint64_t>(); }
    std::string text() { return take(u16()); }
    std::string take(size_t size) {
      const std::string taken = bytes_.substr(std::min(at_, bytes_.size()), size);
      at_ += size;
      return taken;
    }
    Qid qid() {
      Qid value;
      value.type = u8();
      value.version = u32();
      value.path = u64();
      return value;
    }
    bool at_end() const { return at_ >= bytes_.size(); }

   private:
    template <typename T>
    T integer() {
      const std::string bytes = take(sizeof(T));
      return load_le<T>(as_bytes(bytes.data(), bytes.size()));
    }
    std::string bytes_;
    size_t at_ = 0;
  };

  struct Attributes {
    uint64_t valid = 0;
    Qid qid;
    uint32_t mode = 0, uid = 0, gid = 0;
    uint64_t nlink = 0, rdev = 0, size = 0, blksize = 0, blocks = 0;
    uint64_t atime = 0, atime_nsec = 0, mtime = 0, mtime_nsec = 0, generation = 0;
  };
  struct Change {
    uint32_t valid = 0, mode = 0, uid = 0, gid = 0;
    uint64_t size = 0, atime = 0, atime_nsec = 0, mtime = 0, mtime_nsec = 0;
  };
  struct DirectoryEntry {
    Qid qid;
    uint64_t offset = 0;
    uint8_t type = 0;
    std::string name;
  };
  struct Lock {
    uint8_t type = 0;
    uint64_t start = 0, length = 0;
    uint32_t process = 0;
    std::string client = "guest";
  };

  explicit P9Client(Transport transport) : transport_(std::move(transport)) {}

  // Sends any message, and returns the fields of the reply to it.
  Outcome<Fields> call(Message message, const std::string& data = "", size_t room = 0) {
    const auto head = message.finish(tag_, data.size());
    std::string request(reinterpret_cast<const char*>(head.data()), head.size());
    const auto type = static_cast<uint8_t>(request[4]);
    const std::string reply = transport_(request + data, room == 0 ? msize_ : room);
    Fields fields(reply);
    if (reply.size() < virtio::p9::kHeaderBytes || fields.u32() != reply.size())
      return share::refuse(kBadReply);
    const uint8_t reply_type = fields.u8();
    if (fields.u16() != tag_) return share::refuse(kBadReply);
    if (reply_type == virtio::p9::P9_RLERROR) return share::refuse(static_cast<int>(fields.u32()));
    if (reply_type != virtio::p9::reply_type(type)) return share::refuse(kBadReply);
    return fields;
  }
  static constexpr int kBadReply = 9999;  // no errno value

  uint32_t msize() const { return msize_; }
  void set_tag(uint16_t tag) { tag_ = tag; }

  Outcome<std::string> version(uint32_t msize, std::string_view version = "9P2000.L") {
    auto reply = TRY(call(Message(virtio::p9::P9_TVERSION).u32(msize).text(version)));
    msize_ = reply.u32();
    return reply.text();
  }
  Outcome<Qid> attach(uint32_t fid, uint32_t uid = 0, std::string_view folder = "") {
    return qid_of(call(Message(virtio::p9::P9_TATTACH)
                           .u32(fid)
                           .u32(virtio::p9::P9_NOFID)
                           .text("")
                           .text(folder)
                           .u32(uid)));
  }
  Outcome<std::vector<Qid>> walk(uint32_t fid, uint32_t new_fid,
                                 std::vector<std::string> names = {}) {
    Message message(virtio::p9::P9_TWALK);
    message.u32(fid).u32(new_fid).u16(static_cast<uint16_t>(names.size()));
    for (const std::string& name : names) message.text(name);
    auto reply = TRY(call(std::move(message)));
    std::vector<Qid> qids(reply.u16());
    for (Qid& qid : qids) qid = reply.qid();
    return qids;
  }
  Outcome<Qid> open(uint32_t fid, int flags) {
    return qid_of(call(Message(virtio::p9::P9_TLOPEN).u32(fid).u32(static_cast<uint32_t>(flags))));
  }
  Outcome<Qid> create(uint32_t fid, std::string_view name, int flags, uint32_t mode,
                      uint32_t gid = 0) {
    return qid_of(call(Message(virtio::p9::P9_TLCREATE)
                           .u32(fid)
                           .text(name)
                           .u32(static_cast<uint32_t>(flags))
                           .u32(mode)
                           .u32(gid)));
  }
  Outcome<std::string> read(uint32_t fid, uint64_t offset, uint32_t count) {
    auto reply = TRY(call(Message(virtio::p9::P9_TREAD).u32(fid).u64(offset).u32(count)));
    const uint32_t size = reply.u32();
    const std::string data = reply.take(size);
    if (data.size() != size || !reply.at_end()) return share::refuse(kBadReply);
    return data;
  }
  Outcome<uint32_t> write(uint32_t fid, uint64_t offset, const std::string& data) {
    auto reply = TRY(call(
        Message(virtio::p9::P9_TWRITE).u32(fid).u64(offset).u32(static_cast<uint32_t>(data.size())),
        data));
    return reply.u32();
  }
  Outcome<std::vector<DirectoryEntry>> readdir(uint32_t fid, uint64_t offset, uint32_t count) {
    auto reply = TRY(call(Message(virtio::p9::P9_TREADDIR).u32(fid).u64(offset).u32(count)));
    Fields data(reply.take(reply.u32()));
    std::vector<DirectoryEntry> entries;
    while (!data.at_end()) {
      DirectoryEntry entry;
      entry.qid = data.qid();
      entry.offset = data.u64();
      entry.type = data.u8();
      entry.name = data.text();
      entries.push_back(std::move(entry));
    }
    return entries;
  }
  Outcome<> clunk(uint32_t fid) { return only(call(Message(virtio::p9::P9_TCLUNK).u32(fid))); }
  Outcome<> remove(uint32_t fid) { return only(call(Message(virtio::p9::P9_TREMOVE).u32(fid))); }
  Outcome<> fsync(uint32_t fid) {
    return only(call(Message(virtio::p9::P9_TFSYNC).u32(fid).u32(0)));
  }
  Outcome<Attributes> getattr(uint32_t fid) {
    auto reply =
        TRY(call(Message(virtio::p9::P9_TGETATTR).u32(fid).u64(virtio::p9::P9_STATS_BASIC)));
    Attributes all;
    all.valid = reply.u64();
    all.qid = reply.qid();
    for (uint32_t* field : {&all.mode, &all.uid, &all.gid}) *field = reply.u32();
    for (uint64_t* field : {&all.nlink, &all.rdev, &all.size, &all.blksize, &all.blocks, &all.atime,
                            &all.atime_nsec, &all.mtime, &all.mtime_nsec})
      *field = reply.u64();
    for (int i = 0; i < 4; ++i) reply.u64();  // ctime and btime
    all.generation = reply.u64();
    return all;
  }
  Outcome<> setattr(uint32_t fid, const Change& change) {
    return only(call(Message(virtio::p9::P9_TSETATTR)
                         .u32(fid)
                         .u32(change.valid)
                         .u32(change.mode)
                         .u32(change.uid)
                         .u32(change.gid)
                         .u64(change.size)
                         .u64(change.atime)
                         .u64(change.atime_nsec)
                         .u64(change.mtime)
                         .u64(change.mtime_nsec)));
  }
  Outcome<uint64_t> xattrwalk(uint32_t fid, uint32_t new_fid, std::string_view name) {
    return TRY(call(Message(virtio::p9::P9_TXATTRWALK).u32(fid).u32(new_fid).text(name))).u64();
  }
  Outcome<> xattrcreate(uint32_t fid, std::string_view name, uint64_t size, uint32_t flags) {
    return only(
        call(Message(virtio::p9::P9_TXATTRCREATE).u32(fid).text(name).u64(size).u32(flags)));
  }
  Outcome<uint8_t> lock(uint32_t fid, const Lock& lock) {
    return TRY(call(Message(virtio::p9::P9_TLOCK)
                        .u32(fid)
                        .u8(lock.type)
                        .u32(0)
                        .u64(lock.start)
                        .u64(lock.length)
                        .u32(lock.process)
                        .text(lock.client)))
        .u8();
  }
  Outcome<Lock> getlock(uint32_t fid, const Lock& lock) {
    auto reply = TRY(call(Message(virtio::p9::P9_TGETLOCK)
                              .u32(fid)
                              .u8(lock.type)
                              .u64(lock.start)
                              .u64(lock.length)
                              .u32(lock.process)
                              .text(lock.client)));
    Lock found;
    found.type = reply.u8();
    found.start = reply.u64();
    found.length = reply.u64();
    found.process = reply.u32();
    found.client = reply.text();
    return found;
  }
  Outcome<std::string> readlink(uint32_t fid) {
    return TRY(call(Message(virtio::p9::P9_TREADLINK).u32(fid))).text();
  }
  Outcome<Qid> symlink(uint32_t fid, std::string_view name, std::string_view target) {
    return qid_of(call(Message(virtio::p9::P9_TSYMLINK).u32(fid).text(name).text(target).u32(0)));
  }
  Outcome<Qid> mkdir(uint32_t fid, std::string_view name, uint32_t mode = 0755) {
    return qid_of(call(Message(virtio::p9::P9_TMKDIR).u32(fid).text(name).u32(mode).u32(0)));
  }
  Outcome<Qid> mknod(uint32_t fid, std::string_view name, uint32_t mode, uint32_t major,
                     uint32_t minor) {
    return qid_of(call(
        Message(virtio::p9::P9_TMKNOD).u32(fid).text(name).u32(mode).u32(major).u32(minor).u32(0)));
  }
  Outcome<> link(uint32_t directory, uint32_t fid, std::string_view name) {
    return only(call(Message(virtio::p9::P9_TLINK).u32(directory).u32(fid).text(name)));
  }
  Outcome<> rename(uint32_t fid, uint32_t directory, std::string_view name) {
    return only(call(Message(virtio::p9::P9_TRENAME).u32(fid).u32(directory).text(name)));
  }
  Outcome<> renameat(uint32_t from, std::string_view name, uint32_t to, std::string_view new_name) {
    return only(
        call(Message(virtio::p9::P9_TRENAMEAT).u32(from).text(name).u32(to).text(new_name)));
  }
  Outcome<> unlinkat(uint32_t fid, std::string_view name, uint32_t flags = 0) {
    return only(call(Message(virtio::p9::P9_TUNLINKAT).u32(fid).text(name).u32(flags)));
  }

 private:
  static Outcome<Qid> qid_of(Outcome<Fields> reply) { return TRY(std::move(reply)).qid(); }
  static Outcome<> only(Outcome<Fields> reply) {
    TRY(std::move(reply));
    return {};
  }

  const Transport transport_;
  uint16_t tag_ = 1;
  uint32_t msize_ = 8192;
};

}  // namespace wick::fakes
