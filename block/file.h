// The bytes of a disk image: a regular file or a block device of the host. Tests have files
// that record, fail, or lose writes.
//
// Thread rule: as for Backend.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/buffers.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/task.h"
#include "block/async_io.h"

namespace wick::block {

enum class Cache {
  kWriteback,  // the host's page cache; a sync makes writes stable
  kNone,       // O_DIRECT; a sync makes writes stable
  kUnsafe,     // the host's page cache; a sync does nothing
};

class File {
 public:
  virtual ~File() = default;

  // Returns the current size.
  virtual uint64_t size_bytes() const = 0;
  // Returns the space that the host has allocated: less than the size if the file is sparse.
  virtual uint64_t allocated_bytes() const { return size_bytes(); }
  // Returns whether discard() gives space back to the host.
  virtual bool can_discard() const = 0;
  // Returns whether zero() or, with `may_unmap`, punch() is fast, because it writes no zeroes. The
  // answer becomes false if the host turns out not to support fast zeroes.
  virtual bool zeroes_fast(bool may_unmap) const = 0;
  virtual const std::string& path() const = 0;
  // Returns an O_PATH descriptor, to open the same file again even if its path leads to another
  // file by then. Invalid for the files of tests.
  virtual Fd pin() const { return {}; }
  // A range of the file that is a hole, or that is data.
  struct Piece {
    bool hole = false;
    uint64_t end = 0;
  };
  // Returns whether `offset_bytes` is in a hole, and where this hole or data ends.
  virtual Piece piece_at(uint64_t offset_bytes) const {
    static_cast<void>(offset_bytes);
    return {false, size_bytes()};
  }

  // Offsets and lengths may have any alignment. Reads beyond the end give zeroes; writes there
  // extend a regular file.
  virtual Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  virtual Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  // Puts all writes that completed before this call on stable storage. After one failure all later
  // calls fail: the host may have dropped data that it could not write, and metadata written later
  // would refer to that data.
  virtual Task<Result<void>> sync() = 0;
  // Frees the range's space as far as the host supports it; no support is not an error. The content
  // becomes undefined: the old content, zeroes, or a mix.
  virtual Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Make the range read as zeroes. punch() may free the range's space, zero() keeps it. The file
  // does not grow.
  virtual Task<Result<void>> punch(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  virtual Task<Result<void>> zero(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Allocates the range's space on the host, so that later writes to the range do not fail with
  // ENOSPC (PITFALLS 38). Keeps the content. No write to the range may be in flight.
  virtual Task<Result<void>> reserve(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Truncates or extends a regular file.
  virtual Result<void> truncate(uint64_t size_bytes) = 0;
};

// `file` must be open for reading, and for writing unless `read_only`, without O_DIRECT.
// `path` is for messages. `io` must outlive the File.
Result<std::unique_ptr<File>> open_host_file(Fd file, const std::string& path, Cache cache,
                                             bool read_only, AsyncIo& io);

// The operations that the host supports for an open file or block device.
struct FileAbilities {
  bool is_device = false;
  bool in_memory = false;        // the file system keeps its files in memory
  uint64_t sector_bytes = 4096;  // the unit of direct I/O, and of a device's discards
  bool discards = false;
  bool zeroes_fast = false;
};
// Finds the abilities of an open file. Does not change any data.
Result<FileAbilities> find_abilities(const Fd& file, const std::string& path);
// Reads a device's abilities from its folder in sysfs.
FileAbilities device_abilities(const std::string& folder);
// As open_host_file(), with known abilities. `direct` is the file opened with O_DIRECT, or invalid.
// Without `syncs`, sync() does nothing.
std::unique_ptr<File> make_host_file(Fd file, Fd direct, const FileAbilities& abilities, bool syncs,
                                     std::string path, AsyncIo& io);

// Returns buffers with `max_bytes` zeroes, but at most 256 KiB. They are read-only: all share one
// page.
std::vector<iovec> zero_buffers(uint64_t max_bytes);

void fill_zeroes(std::span<const iovec> buffers);
inline iovec to_iovec(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace wick::block
