// A 9P2000.L server for one client: executes its requests on a share. Data of Tread and Twrite
// go between the file and the client's buffers without a copy.
//
// Specification: diod's protocol.md; Linux, fs/9p and net/9p/client.c, for what the client sends.
//
// Thread rule: any thread may call execute(), several at the same time, except that Tversion and
// reset() must be alone. A request blocks as long as the host's file system does.
#pragma once

#include <atomic>
#include <span>

#include "share/tree.h"
#include "virtio/p9_fids.h"
#include "virtio/p9_message.h"

namespace wick::virtio::p9 {

class Session {
 public:
  // Of the values of extended attributes in all fids.
  static constexpr size_t kMaxXattrBytes = 8 << 20;

  // The tree must outlive the session, and is used by it alone.
  explicit Session(share::Tree& tree) : tree_(tree) {}

  // Executes a request and writes the reply to `writable`. Returns the size of the reply in
  // bytes; 0 if there is not even room for an error, and then the request is not executed.
  // Tflush is the caller's: what it refers to is not known here.
  size_t execute(const Request& request, std::span<const iovec> writable);
  // Drops all fids, and whatever else the tree keeps for the client.
  void reset();

  // The negotiated maximum size of a message in bytes.
  uint32_t msize() const { return msize_; }
  size_t fids() const { return fids_.size(); }

 private:
  // A reply; `data_bytes` bytes behind it are in the client's buffers already.
  struct Answer {
    Reply reply;
    size_t data_bytes = 0;
  };
  // The execution of each type of request.
  struct Execution;

  share::Tree& tree_;
  std::atomic<uint32_t> msize_{kMaxMessageBytes};
  std::atomic<bool> negotiated_{false};  // the client may attach
  std::atomic<size_t> xattr_budget_bytes_{kMaxXattrBytes};
  FidTable fids_;
};

// The identity of a file. The path is the inode number, which a share makes unique; the version
// changes with the file's content, and is never 0, which Linux takes for a file that it must not
// cache.
Qid qid_of(const share::Attributes& attributes);

}  // namespace wick::virtio::p9
