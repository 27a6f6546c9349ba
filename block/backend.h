// What a disk device reads from and writes to: a raw file, an image format, an
// overlay over another back end. It does not know who reads it (virtio-blk,
// IDE, an image tool) and holds no guest type.
//
// Thread rule: a back end belongs to one EventLoop; every call is made on it
// and every Task finishes on it. Several requests may be in flight; those that
// overlap happen in any order, as on a real disk.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "base/task.h"

namespace wick::block {

// What a range of a disk starts with, and for how many of its bytes that goes on.
struct Extent {
  uint64_t length_bytes = 0;
  bool present = true;  // not left to a backing file
  bool zero = false;    // known to read as zeroes
  bool data = true;     // read from a file
  int depth = 0;        // 1: it is the backing file's, 2: that one's backing file's, ...
  std::optional<uint64_t> host_offset = {};  // in the file `path`; none: compressed
  std::string path = {};
  // Compressed: its first so many bytes are unpacked together. 0: not compressed.
  uint64_t block_bytes = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // A multiple of 512.
  virtual uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;
  // The file of an image that open_image() opened, or of a chain its first (File::pin()).
  virtual Fd pin() const { return {}; }
  // Takes over the size that another program gave the disk's file, while requests go on.
  virtual Task<Result<void>> update_size() { co_return Result<void>(); }
  // Whether discard() can give space back to the host.
  virtual bool can_discard() const = 0;
  // Whether write_zeroes() takes little time: most of it writes nothing to the host. May
  // become false when the host turns out to be unable.
  virtual bool zeroes_fast(bool may_unmap) const = 0;

  // The buffers must stay valid until the Task is done. A range that is not
  // wholly inside the disk is an error (EINVAL), also for the calls below; so
  // is any writing call on a read-only disk (EROFS). Offsets and lengths may
  // have any alignment. On an error nothing is known of the range's content.
  virtual Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  virtual Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;

  // What completed before this call is on stable storage when it is done.
  virtual Task<Result<void>> flush() = 0;

  // The content of the range becomes indefinite: what it was, or zeroes, but never what
  // an image below holds. Not a promise to free space, and never done by writing zeroes.
  virtual Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Where the content is; who does not know says that all is data.
  virtual Task<Result<Extent>> extent(uint64_t offset_bytes, uint64_t length_bytes) {
    static_cast<void>(offset_bytes);
    co_return Extent{.length_bytes = length_bytes};
  }

  // The range reads as zeroes; `may_unmap` allows it to lose its space.
  virtual Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                          bool may_unmap) = 0;
};

}  // namespace wick::block
