// The parts of an image's tables (L2 tables, refcount blocks) that are in
// memory: a cache of slices, written back only when its owner says so.
//
// Thread rule: one EventLoop. A slice's bytes stay where they are until the
// next co_await, no longer.
#pragma once

#include <array>
#include <coroutine>
#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "block/file.h"

namespace wick::block::qcow2 {

class TableCache {
 public:
  // Slices are as large as a cluster, at most 4 KiB. At most `most_bytes` of them
  // stay when clean; `file` must outlive the cache.
  TableCache(File& file, uint64_t cluster_bytes, uint64_t most_bytes);

  uint64_t slice_bytes() const { return slice_bytes_; }

  // The slice that `offset`, a byte of the file, is in.
  Task<Result<std::span<std::byte>>> get(uint64_t offset);
  // The same, to be changed: its space in the file is reserved.
  Task<Result<std::span<std::byte>>> get_for_change(uint64_t offset);
  // The slice when it is in memory; or nothing.
  std::span<std::byte> find(uint64_t offset);
  // The slice came from get_for_change() or create().
  void mark_dirty(uint64_t offset);

  // A new table of one cluster at `offset`, in memory only, dirty, of zeroes. The
  // caller has reserved the cluster.
  void create(uint64_t offset, uint64_t cluster_bytes);
  // The cluster holds no table any more; nothing of it is written.
  void forget(uint64_t offset, uint64_t cluster_bytes);

  // What is to be written, as it was at the time of the call.
  struct Copy {
    uint64_t offset = 0;
    std::vector<std::byte> bytes;  // of neighbouring slices of one table
    bool failed = false;           // the file does not have it
    bool overlaps(uint64_t from, uint64_t length) const {
      return from < offset + bytes.size() && offset < from + length;
    }
  };
  std::vector<Copy> take_dirty();
  // Writes what has not failed before. One that cannot be written is marked as failed,
  // and the others are written all the same; the result is the first error.
  Task<Result<void>> write(std::vector<Copy>& copies);
  // The end of what take_dirty() began: what failed is dirty again.
  void written(std::span<const Copy> copies);

  // So much is dirty that it should be written.
  bool crowded() const { return dirty_.size() * 2 > most_slices_; }

 private:
  static constexpr size_t kMaxSliceBytes = 4096;
  struct alignas(kMaxSliceBytes) Page {  // aligned for O_DIRECT
    std::array<std::byte, kMaxSliceBytes> bytes;
  };
  struct Slice {
    std::unique_ptr<Page> page;  // none yet: it is being loaded
    std::list<uint64_t>::iterator use;
    bool loading = false;   // or being reserved
    bool reserved = false;  // the host has space for it
    bool writing = false;
    std::vector<std::coroutine_handle<>> waiting;  // for the end of `loading`
  };

  uint64_t start_of(uint64_t offset) const { return offset - offset % slice_bytes_; }
  std::span<std::byte> bytes_of(Slice& slice) const {
    return {slice.page->bytes.data(), slice_bytes_};
  }
  static std::vector<std::coroutine_handle<>> finish_loading(Slice& slice);
  Slice& insert(uint64_t start);
  void erase(uint64_t start);
  void evict();

  File& file_;
  const uint64_t cluster_bytes_;
  const uint64_t slice_bytes_;
  const size_t most_slices_;

  std::unordered_map<uint64_t, Slice> slices_;  // by their offset in the file
  std::list<uint64_t> uses_;                    // the latest first
  std::set<uint64_t> dirty_;
};

Task<Result<void>> read_bytes(File& file, uint64_t offset, std::span<std::byte> bytes);
Task<Result<void>> write_bytes(File& file, uint64_t offset, std::span<const std::byte> bytes);

// Tables of entries of 64 bits. The caller has checked how many there are.
Task<Result<std::vector<uint64_t>>> read_table(File& file, uint64_t offset, uint64_t entries);
Task<Result<void>> write_table(File& file, uint64_t offset, std::span<const uint64_t> entries);

// Reads many tables, best in the order of their offsets, without reading the file's holes.
class TableReader {
 public:
  explicit TableReader(File& file) : file_(file) {}
  bool is_hole(uint64_t offset, uint64_t length);
  // As read_table(); nothing where the table is in a hole, so that all entries are zero.
  Task<Result<std::vector<uint64_t>>> read(uint64_t offset, uint64_t entries);

 private:
  File& file_;
  File::Piece piece_;  // the last one that was asked for, from piece_start_ on
  uint64_t piece_start_ = 0;
};

}  // namespace wick::block::qcow2
