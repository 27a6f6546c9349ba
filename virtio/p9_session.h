// A 9P2000.L server for one client: executes its requests on a share. The data of Tread and Twrite
// move between the file and the client's buffers without a copy.
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
  // The maximum size of the extended attribute values in all fids together.
  static constexpr size_t kMaxXattrBytes = 8 << 20;

  // The tree must outlive the session. Nobody else may use the tree.
  explicit Session(share::Tree& tree) : tree_(tree) {}

  // Executes a request and writes the reply to `writable`. Returns the size of the reply in
  // bytes; 0 if there is not even room for an error, and then the request is not executed.
  // The caller must handle Tflush itself, because the session does not know which requests are in
  // flight.
  size_t execute(const Request& request, std::span<const iovec> writable);
  // Drops all fids and everything that the tree keeps for the client.
  void reset();

  // The negotiated maximum size of a message in bytes.
  uint32_t msize() const { return msize_; }
  size_t fids() const { return fids_.size(); }

 private:
  // A reply. The `data_bytes` bytes of data that follow it are in the client's buffers already.
  struct Answer {
    Reply reply;
    size_t data_bytes = 0;
  };
  // A function object that executes a request: one operator() for each type (p9_execution.h).
  struct Execution;

  share::Tree& tree_;
  std::atomic<uint32_t> msize_{kMaxMessageBytes};
  std::atomic<bool> negotiated_{false};  // the client may attach
  std::atomic<size_t> xattr_budget_bytes_{kMaxXattrBytes};
  FidTable fids_;
};

// Returns the identity of a file. The path is the inode number, which a share makes unique. The
// version changes with the file's content. It is never 0, because Linux does not cache a file with
// version 0.
Qid qid_of(const share::Attributes& attributes);

}  // namespace wick::virtio::p9
