// The bytes under a disk image: a regular file or a block device of the host,
// or in tests one that records, fails or forgets.
//
// Thread rule: as for Backend.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

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

  // Where the file ends now.
  virtual uint64_t size_bytes() const = 0;
  // Of the host's space that it has; less than its size where it is sparse.
  virtual uint64_t allocated_bytes() const { return size_bytes(); }
  // Whether discard() gives space back to the host.
  virtual bool can_discard() const = 0;
  // Whether zero() takes little time, or, with `may_unmap`, punch() does: no zeroes are
  // written for it. May become false when the host turns out to be unable.
  virtual bool zeroes_fast(bool may_unmap) const = 0;
  virtual const std::string& path() const = 0;
  // A descriptor that only says which file this is (O_PATH), to open it anew whatever its
  // path leads to by then. Invalid in tests.
  virtual Fd pin() const { return {}; }
  // Whether `offset_bytes` is in a hole, and behind it the first byte that differs.
  struct Piece {
    bool hole = false;
    uint64_t end = 0;
  };
  virtual Piece piece_at(uint64_t offset_bytes) const {
    static_cast<void>(offset_bytes);
    return {false, size_bytes()};
  }

  // Any alignment. What is read behind the end is zeroes; a write there extends
  // a regular file.
  virtual Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  virtual Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  // What completed before is on stable storage when it is done. After one that
  // failed all fail: the host may have dropped what it could not write, and who
  // went on would publish what is not there.
  virtual Task<Result<void>> sync() = 0;
  // The range's content becomes indefinite: what it was, zeroes, or a mix. Space is given
  // back as far as the host can; that it cannot is no error.
  virtual Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // The range then reads as zeroes; a file does not grow by it. punch() may give its
  // space back, zero() keeps it.
  virtual Task<Result<void>> punch(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  virtual Task<Result<void>> zero(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // The range has its space on the host afterwards: a write to it does not fail for
  // want of space (PITFALLS 38). Its content stays. Nobody writes to it meanwhile.
  virtual Task<Result<void>> reserve(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Cuts or extends a regular file.
  virtual Result<void> truncate(uint64_t size_bytes) = 0;
};

// `file` is open for reading, and for writing unless `read_only`, without
// O_DIRECT; `path` serves messages.
// `io` must outlive the File.
Result<std::unique_ptr<File>> open_host_file(Fd file, const std::string& path, Cache cache,
                                             bool read_only, AsyncIo& io);

// What the host can do with an open file or block device.
struct FileAbilities {
  bool is_device = false;
  uint64_t sector_bytes = 4096;  // of direct I/O, and of a device's discards
  bool discards = false;
  bool zeroes_fast = false;
};
// Asks without touching data.
Result<FileAbilities> find_abilities(const Fd& file, const std::string& path);
// The part of it that a device's folder in sysfs tells.
FileAbilities device_abilities(const std::string& folder);
// open_host_file() once that is known. `direct` is invalid without O_DIRECT.
std::unique_ptr<File> make_host_file(Fd file, Fd direct, const FileAbilities& abilities, bool syncs,
                                     std::string path, AsyncIo& io);

// The first `most_bytes` of 256 KiB of zeroes, to be written from. All have the same page.
std::vector<iovec> zero_buffers(uint64_t most_bytes);

// What images of all formats do with a request's buffers.
uint64_t total_bytes(std::span<const iovec> buffers);
// The part of `length_bytes` behind the first `offset_bytes`.
std::vector<iovec> slice(std::span<const iovec> buffers, uint64_t offset_bytes,
                         uint64_t length_bytes);
void fill_zeroes(std::span<const iovec> buffers);
inline iovec to_iovec(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace wick::block
