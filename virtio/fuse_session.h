// A FUSE server over a share::Tree, independent of virtqueues. Each call of handle() executes one
// request.
//
// Thread rule: any thread may call handle(), several at the same time. reset() may be called only
// while no request is executed. FUSE_INIT and FUSE_DESTROY also reset the session; requests that
// are executed at that time may fail.
#pragma once

#include <atomic>
#include <chrono>
#include <span>

#include "share/tree.h"
#include "virtio/fuse_request.h"

namespace wick::virtio {

// What the guest caches of the files that it has read.
enum class FuseCache {
  kAuto,    // names and attributes for a second; data until a file is opened again or changes
  kAlways,  // everything; for files that only this guest changes
  kNever,   // nothing: each access is a request
};

class FuseSession {
 public:
  // The maximum amount of data in one FUSE_WRITE or FUSE_READ.
  static constexpr uint32_t kMaxPages = 256;
  static constexpr uint32_t kMaxWriteBytes = kMaxPages * 4096;

  // `tree` must outlive the session.
  FuseSession(share::Tree& tree, FuseCache cache);

  // Executes the request and writes its answer. Returns the number of bytes written; 0 if the
  // request has no answer or is malformed, or if the chain has no room for an answer.
  uint32_t handle(std::span<const iovec> readable, std::span<const iovec> writable);
  // Drops the client's references and open files. The next request must be FUSE_INIT.
  void reset();

 private:
  struct Call;
  using Handler = uint32_t (FuseSession::*)(Call&);
  static Handler handler_of(uint32_t opcode);

  uint32_t init(Call& call);
  uint32_t destroy(Call& call);
  uint32_t forget(Call& call);
  uint32_t batch_forget(Call& call);
  uint32_t no_answer(Call& call);

  uint32_t entry_reply(Call& call, const share::Outcome<share::Entry>& entry);
  uint32_t lookup(Call& call);
  uint32_t get_attributes(Call& call);
  uint32_t set_attributes(Call& call);
  uint32_t read_link(Call& call);
  uint32_t symbolic_link(Call& call);
  uint32_t make_node(Call& call);
  uint32_t make_directory(Call& call);
  uint32_t unlink(Call& call);
  uint32_t remove_directory(Call& call);
  uint32_t rename(Call& call);
  uint32_t rename2(Call& call);
  uint32_t link(Call& call);
  uint32_t file_system(Call& call);
  uint32_t set_xattr(Call& call);
  uint32_t get_xattr(Call& call);
  uint32_t list_xattrs(Call& call);
  uint32_t remove_xattr(Call& call);

  uint32_t open(Call& call);
  uint32_t create(Call& call);
  uint32_t read(Call& call);
  uint32_t write(Call& call);
  uint32_t flush(Call& call);
  uint32_t release(Call& call);
  uint32_t sync(Call& call);
  uint32_t sync_file_system(Call& call);
  uint32_t open_directory(Call& call);
  uint32_t read_directory(Call& call);
  uint32_t allocate(Call& call);
  uint32_t seek(Call& call);
  uint32_t copy_range(Call& call);

  uint32_t rename(Call& call, uint64_t new_directory, uint32_t flags);
  uint32_t opened(Call& call, share::FileId file, bool directory);
  fuse_open_out open_reply(share::FileId file, bool directory) const;
  uint32_t xattr_reply(Call& call, uint32_t size, std::span<const std::byte> value);
  // Returns the caller of a request. If FUSE_DONT_MASK was negotiated, the result has the umask for
  // new files.
  share::Caller caller(const Call& call, uint32_t umask) const;

  // Constant after construction.
  share::Tree& tree_;
  const FuseCache cache_;
  const std::chrono::seconds valid_;

  std::atomic<bool> started_{false};  // FUSE_INIT has been answered
  std::atomic<bool> acls_{false};     // FUSE_INIT has negotiated kAclFeatures
};

}  // namespace wick::virtio
