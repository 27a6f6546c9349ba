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

// The part at the start of a range whose bytes are all of one kind.
struct Extent {
  uint64_t length_bytes = 0;
  bool present = true;  // not left to a backing file
  bool zero = false;    // known to read as zeroes
  bool data = true;     // read from a file
  int depth = 0;        // 0: this image, 1: its backing file, 2: that one's backing file, ...
  std::optional<uint64_t> host_offset = {};  // in the file `path`; empty: compressed
  std::string path = {};
  // If compressed: this many bytes at the start are unpacked together. 0: not compressed.
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
  // Changes the size of the disk and of its image; a multiple of 512, not below the present
  // size. Requests may be in flight.
  virtual Task<Result<void>> resize(uint64_t size_bytes) {
    static_cast<void>(size_bytes);
    co_return fail_errno(ENOTSUP, "this kind of disk has a fixed size");
  }
  // While true, requests that wait for the host's word (block/supervised.h) fail: a device that is
  // being reset waits for them.
  virtual void drain(bool draining) { static_cast<void>(draining); }
  // Whether discard() can give space back to the host.
  virtual bool can_discard() const = 0;
  // Whether write_zeroes() is fast, because it writes mostly metadata. Becomes false if the
  // host turns out not to support it.
  virtual bool zeroes_fast(bool may_unmap) const = 0;

  // The buffers must stay valid until the Task is done. Offsets and lengths may have any
  // alignment. For all calls, a range that is not wholly inside the disk is an error (EINVAL),
  // and so is a write to a read-only disk (EROFS). After an error the content of the range is
  // undefined.
  virtual Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  virtual Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;

  // Afterwards all writes that completed before this call are on stable storage.
  virtual Task<Result<void>> flush() = 0;

  // The content of the range becomes undefined: the old content or zeroes, but never the
  // content of a backing file. May free space, and never writes zeroes.
  virtual Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Returns how and where the first part of the range is stored. The default says that the
  // whole range is data.
  virtual Task<Result<Extent>> extent(uint64_t offset_bytes, uint64_t length_bytes) {
    static_cast<void>(offset_bytes);
    co_return Extent{.length_bytes = length_bytes};
  }

  // Afterwards the range reads as zeroes; `may_unmap` allows to free its space.
  virtual Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                          bool may_unmap) = 0;
};

}  // namespace wick::block
