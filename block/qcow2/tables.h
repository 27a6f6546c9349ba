// A cache for tables of an image (L2 tables, refcount blocks), in slices. The cache writes changes
// only when its owner calls write(). Also functions that read and write tables without a cache.
//
// Thread rule: one EventLoop. The address of a slice's bytes is valid until the next co_await.
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
  // A slice is as large as a cluster, but at most 4 KiB. Clean slices are evicted when the
  // cache has more than `max_bytes`. `file` must outlive the cache.
  TableCache(File& file, uint64_t cluster_bytes, uint64_t max_bytes);

  uint64_t slice_bytes() const { return slice_bytes_; }

  // Returns the slice that contains the byte at `offset` of the file.
  Task<Result<std::span<std::byte>>> get(uint64_t offset);
  // As get(), but the caller may change the slice: reserves the host's space for it.
  Task<Result<std::span<std::byte>>> get_for_change(uint64_t offset);
  // Returns the slice if it is in memory; otherwise an empty span.
  std::span<std::byte> find(uint64_t offset);
  // Marks a slice as changed. Only for slices from get_for_change() or create().
  void mark_dirty(uint64_t offset);

  // Creates a table of one cluster in memory: it has only zeroes, and is dirty. The caller has
  // reserved the host's space.
  void create(uint64_t offset, uint64_t cluster_bytes);
  // Removes a table of one cluster from the cache without writing it.
  void forget(uint64_t offset, uint64_t cluster_bytes);

  // A copy of dirty slices. take_dirty() marks the slices as clean.
  struct Copy {
    uint64_t offset = 0;
    std::vector<std::byte> bytes;  // neighbouring dirty slices of one table
    bool failed = false;           // it could not be written
    bool overlaps(uint64_t from, uint64_t length) const {
      return from < offset + bytes.size() && offset < from + length;
    }
  };
  std::vector<Copy> take_dirty();
  // Writes the copies that are not marked as failed, and marks those that cannot be written.
  // Goes on after an error; returns the first one.
  Task<Result<void>> write(std::vector<Copy>& copies);
  // Must be called after take_dirty() and write(). Failed copies make their slices dirty again.
  void written(std::span<const Copy> copies);

  // Returns whether the dirty slices are more than half of the slices that the cache may have.
  bool needs_checkpoint() const { return dirty_.size() * 2 > max_slices_; }

 private:
  static constexpr size_t kMaxSliceBytes = 4096;
  struct alignas(kMaxSliceBytes) Page {  // aligned for O_DIRECT
    std::array<std::byte, kMaxSliceBytes> bytes;
  };
  struct Slice {
    std::unique_ptr<Page> page;  // nullptr while it is being loaded
    std::list<uint64_t>::iterator use;
    bool loading = false;   // being read, or space for it being reserved
    bool reserved = false;  // the host has space for it
    bool writing = false;
    std::vector<std::coroutine_handle<>> waiting;  // coroutines that wait for the end of `loading`
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
  const size_t max_slices_;

  std::unordered_map<uint64_t, Slice> slices_;  // by their offset in the file
  std::list<uint64_t> uses_;                    // the most recently used first
  std::set<uint64_t> dirty_;
};

Task<Result<void>> read_bytes(File& file, uint64_t offset, std::span<std::byte> bytes);
Task<Result<void>> write_bytes(File& file, uint64_t offset, std::span<const std::byte> bytes);

// Read and write tables of 64-bit entries. The caller has checked the number of entries.
Task<Result<std::vector<uint64_t>>> read_table(File& file, uint64_t offset, uint64_t entries);
Task<Result<void>> write_table(File& file, uint64_t offset, std::span<const uint64_t> entries);

// Reads many tables without reading holes of the file. It is fastest if the offsets ascend.
class TableReader {
 public:
  explicit TableReader(File& file) : file_(file) {}
  bool is_hole(uint64_t offset, uint64_t length);
  // As read_table(), but returns an empty vector if the table is in a hole of the file, where
  // all entries are zero.
  Task<Result<std::vector<uint64_t>>> read(uint64_t offset, uint64_t entries);

 private:
  File& file_;
  File::Piece piece_;  // the last result of piece_at(), for piece_start_
  uint64_t piece_start_ = 0;
};

}  // namespace wick::block::qcow2
