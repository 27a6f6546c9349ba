// Host back end of a disk: a raw file, an image format, an overlay over another back end.
// virtio-blk, IDE and the image tool share it.
//
// Thread rule: a back end belongs to one EventLoop; every call is made on it and every Task
// finishes on it. Several requests may be in flight; overlapping ones happen in any order, as
// on a real disk.
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

// The first part of a queried range, and the status that all bytes of this part share.
struct Extent {
  uint64_t length_bytes = 0;
  bool present = true;  // false: no image of the chain has this part
  bool zero = false;    // known to read as zeroes
  bool data = true;     // stored as data in a file; with `zero`: in a hole of that file
  int depth = 0;  // 0: in this image, 1: in its backing file, 2: in the next backing file, ...
  // The offset of the part in the file `path`. Empty: the part has no place in a file, or is
  // compressed.
  std::optional<uint64_t> host_offset = {};
  std::string path = {};
  // If the part is compressed: this many bytes at its start are unpacked together. 0: not
  // compressed.
  uint64_t block_bytes = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // The disk's size, a multiple of 512.
  virtual uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;
  // Returns File::pin() of the file that open_image() opened; for a chain, that of its top image.
  virtual Fd pin() const { return {}; }
  // Applies the new size that another program gave the disk. Requests may be in flight.
  virtual Task<Result<void>> update_size() { co_return Result<void>(); }
  // Changes the size of the disk and of its image to `size_bytes`: a multiple of 512, not below the
  // present size. Requests may be in flight.
  virtual Task<Result<void>> resize(uint64_t size_bytes) {
    static_cast<void>(size_bytes);
    co_return fail_errno(ENOTSUP, "this kind of disk has a fixed size");
  }
  // While `draining`, requests that would wait in Supervised (block/supervised.h) fail, because a
  // device that is being reset waits until all its requests have ended.
  virtual void drain(bool draining) { static_cast<void>(draining); }
  // Returns whether discard() can give space back to the host.
  virtual bool can_discard() const = 0;
  // Returns whether write_zeroes() is fast, because it writes mostly metadata. The answer becomes
  // false if the host turns out not to support fast zeroes.
  virtual bool zeroes_fast(bool may_unmap) const = 0;

  // The buffers must stay valid until the Task is done. Offsets and lengths may have any
  // alignment. For all calls, a range that is not wholly inside the disk is an error (EINVAL),
  // and so is a write to a read-only disk (EROFS). After an error the content of the range is
  // undefined.
  virtual Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  virtual Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;

  // Puts all writes that completed before this call on stable storage.
  virtual Task<Result<void>> flush() = 0;

  // Lets the content of the range become undefined: the old content or zeroes, but never the
  // content of a backing file. May free space, and never writes zeroes.
  virtual Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Returns how and where the first part of the range is stored. The default says that the
  // whole range is data.
  virtual Task<Result<Extent>> extent(uint64_t offset_bytes, uint64_t length_bytes) {
    static_cast<void>(offset_bytes);
    co_return Extent{.length_bytes = length_bytes};
  }

  // Makes the range read as zeroes. If `may_unmap` is true, the range's space may be freed.
  virtual Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                          bool may_unmap) = 0;
};

}  // namespace wick::block
