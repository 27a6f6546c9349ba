// The metadata of a qcow2 image: its header, L1 and L2 tables and reference counts (qcow2
// specification: QEMU's docs/interop/qcow2.txt). It maps the disk to the file, allocates
// clusters, and writes its changes to the file. It does not read or write the guest's data.
//
// Crashes. Changes are made in memory. A checkpoint writes them to the file, at a flush or when
// there are many changes:
//
//   1. the refcounts (new blocks before the table that points to them);
//   2. a sync, also of the guest's data;
//   3. the L2 tables;
//   4. a sync;
//   5. the L1 entries;
//   6. a sync;
//   7. the clusters that are no longer mapped are freed.
//
// A sync with nothing to order is left out. Refcounts and L2 tables are written as they were when
// the checkpoint started. So each cluster that a table in the file points to is counted and
// contains its data. A crash at any point leaves at most leaked clusters.
//
// A full disk of the host. Host space for a new table is reserved when its cluster is allocated,
// and for an existing table before the table changes in memory. So if the host has too little
// space, the guest's request fails, and not a later checkpoint.
//
// Thread rule: one EventLoop. lock() serializes allocation, checkpoints and changes of the
// header. Functions that need the lock take it themselves, with these exceptions: functions
// whose names end in _locked, free_clusters(), apply_frees() and write_snapshot_fields() do not
// take it. Their caller holds the lock, or nobody else uses the disk. Only a caller that has
// exclusive access to a guest cluster changes its mapping (Qcow2::clusters_).
#pragma once

#include <optional>
#include <set>
#include <span>
#include <vector>

#include "block/file.h"
#include "block/qcow2/format.h"
#include "block/qcow2/refcounts.h"
#include "block/qcow2/tables.h"
#include "block/range_lock.h"

namespace wick::block {

// Where a range of the disk is.
struct Mapping {
  enum class Kind : uint8_t { kUnallocated, kZero, kData, kCompressed };

  Kind kind = Kind::kUnallocated;
  uint64_t length_bytes = 0;
  uint64_t host_offset = 0;       // of the range's first byte; kCompressed: of the packed data
  bool has_cluster = false;       // host_offset is valid; not set for kCompressed
  bool in_place = false;          // kData: may be written at host_offset
  uint64_t compressed_bytes = 0;  // kCompressed: the length of the packed data
};

namespace qcow2 {

struct L2Entry {
  uint64_t descriptor = 0;
  uint64_t bitmap = 0;  // only used by extended L2 entries
};

// Where to write data that must not overwrite what the L2 entries map now: in new clusters, in
// parts of the present cluster that are not mapped as data, or in the data file.
struct Allocation {
  uint64_t offset = 0;       // on the disk: where the first cluster starts
  uint64_t host_offset = 0;  // in the file that has the data
  std::vector<L2Entry> old;  // for each cluster: the entry that is replaced
  // True: the data goes to the old entry's own cluster, where that entry maps no data.
  bool reuses_cluster = false;
  ClusterRun clusters;  // the new clusters; empty if none are needed
  bool fresh = false;   // unwritten bytes of `clusters` read as zeroes
  // The caller must write multiples of this size: a cluster, or a subcluster if the other
  // subclusters do not change.
  uint64_t granule_bytes = 0;
};

class Metadata {
 public:
  // `file` must outlive this. `header`, `l1` and `refcount_table` are read from `file`.
  // `cache_bytes` is for L2 tables and refcount blocks.
  Metadata(File& file, Header header, std::vector<uint64_t> l1,
           std::vector<uint64_t> refcount_table, uint64_t cache_bytes, bool read_only);
  Metadata(const Metadata&) = delete;
  Metadata& operator=(const Metadata&) = delete;

  // Refuses refcount blocks at impossible places. The allocator relies on this check.
  Result<void> check_refcount_blocks() const;
  // Sets the external data file, which must outlive this. Must be called before the first
  // request.
  void set_data_file(File* data) { data_file_ = data; }

  const Header& header() const { return header_; }
  const std::string& path() const { return file_.path(); }
  bool read_only() const { return read_only_; }
  File& file() const { return file_; }
  File* data_file() const { return data_file_; }  // nullptr: the data is in file()
  File& data() const { return data_file_ != nullptr ? *data_file_ : file_; }
  // Returns whether the data file is the disk, byte by byte.
  bool has_raw_data() const {
    return data_file_ != nullptr && (header_.autoclear & kRawExternalData) != 0;
  }
  const std::vector<uint64_t>& l1() const { return l1_; }
  uint64_t l1_index(uint64_t offset) const {
    return header_.cluster_of(offset) / header_.l2_entries();
  }
  // Returns how many bytes of the disk one slice of an L2 table maps.
  uint64_t slice_span() const {
    return l2_.slice_bytes() / header_.l2_entry_bytes() << header_.cluster_bits;
  }
  Refcounts& refcounts() { return refcounts_; }
  TableCache& l2_tables() { return l2_; }
  std::unexpected<Error> corrupt(const char* what, uint64_t value) const;

  // Mapping (metadata.cc)

  // Returns the mapping at `offset_bytes`, and how far it is contiguous within the range.
  Task<Result<Mapping>> map(uint64_t offset_bytes, uint64_t length_bytes);
  // Returns the mapping without waiting if the whole range is data in one piece, as for most
  // requests, and its L2 slice is in memory; otherwise nullopt.
  std::optional<Mapping> map_at_once(uint64_t offset_bytes, uint64_t length_bytes);
  L2Entry load_entry(std::span<const std::byte> slice, uint64_t offset_bytes) const;
  // Returns the place of an L2 entry in the file. The L2 table must exist.
  uint64_t entry_offset(uint64_t offset_bytes) const;
  // Refuses an L2 table at an impossible place.
  Result<void> check_l2_table(uint64_t l1_index) const;

  // Changes of the mapping (metadata_allocation.cc)

  // Must be awaited before the first change: clears the auto-clear features that writing makes
  // invalid. Fails with EROFS if the image is read-only.
  Task<Result<void>> begin_writing();
  bool writing() const { return writing_; }
  // Must be awaited before a change of an L2 entry. Creates the entry's table, or copies the table
  // if a snapshot shares it.
  Task<Result<void>> prepare_change(uint64_t offset_bytes);
  // Allocates clusters for the beginning of the range, up to the end of the L2 slice or to the next
  // change of the mapping. If the clusters are not used, the caller frees them with give_back().
  Task<Result<Allocation>> allocate(uint64_t offset_bytes, uint64_t length_bytes);
  // Allocates a place for a compressed cluster of `length_bytes`, and returns its offset in the
  // file. If the place is not used, the caller frees its clusters with give_back().
  Task<Result<uint64_t>> allocate_compressed(uint64_t length_bytes);
  Task<Result<void>> give_back(ClusterRun clusters);
  // Maps the disk's range [from_bytes, to_bytes) to `allocation`, where the caller has written the
  // data.
  Task<Result<void>> map_allocation(const Allocation& allocation, uint64_t from_bytes,
                                    uint64_t to_bytes);
  Task<Result<void>> map_compressed(uint64_t offset_bytes, CompressedRange range);
  // Unmaps whole clusters within one slice, after prepare_change(). With `keep_clusters`, allocated
  // clusters stay allocated and read as zeroes. With `hide_backing`, the clusters that are not
  // allocated read as zeroes too, instead of as the backing file; version 2 of the format cannot do
  // this.
  Task<Result<void>> clear_entries(uint64_t offset_bytes, uint64_t length_bytes, bool keep_clusters,
                                   bool hide_backing);
  // Removes an L2 table from the L1 table. The caller has released the clusters that it maps.
  void drop_l2_table(uint64_t l1_index, bool punch);
  void set_l1_entry(uint64_t l1_index, uint64_t entry);
  // Incremented when space of compressed clusters is released. A copy of a cluster that was
  // decompressed before may then be out of date.
  uint64_t compressed_generation() const { return compressed_generation_; }

  // Checkpoints (metadata_checkpoint.cc)

  RangeLock::Awaiter lock() { return lock_.exclusive(0, 0); }
  // Writes a checkpoint. With `stable`, all writes that completed before the call are on stable
  // storage afterwards.
  Task<Result<void>> checkpoint(bool stable);
  Task<Result<void>> checkpoint_locked(bool stable);
  // Must be awaited before a change that a checkpoint will have to write. Makes a checkpoint if
  // there are many changes already, which bounds memory.
  Task<Result<void>> checkpoint_when_due();
  // Releases clusters that the disk no longer uses; the next checkpoint frees them. `punch`
  // also gives their space back to the host.
  void release(L2Entry entry, bool punch);
  void release_clusters(ClusterRun clusters, bool punch);
  // Frees clusters that no table in the file points to, at once or at the next apply_frees().
  Task<Result<void>> free_clusters(ClusterRun clusters, bool punch);
  Task<Result<void>> apply_frees();

  // Changes of the header (metadata_header.cc)

  // Allocates clusters for an L1 table of `entries`, for a disk of `disk_bytes`; returns the
  // first one. Their content is undefined.
  Task<Result<uint64_t>> allocate_l1_locked(uint64_t disk_bytes, uint64_t entries);
  // Writes a new L1 table to the clusters that allocate_l1_locked() allocated, then the table's
  // place and the disk's size to the header. Releases the clusters of the old table, but not
  // the clusters that it points to. After an error the new clusters are freed, at once or when
  // restore_header_locked() succeeds.
  Task<Result<void>> switch_l1_locked(uint64_t disk_bytes, uint64_t first_cluster,
                                      std::vector<uint64_t> l1);
  // Changes the disk's size. After an error the disk has its old size.
  Task<Result<void>> write_size_locked(uint64_t disk_bytes);
  // Changes the size only in memory, for work on clusters behind the disk's end.
  void set_size_in_memory(uint64_t disk_bytes) { header_.size_bytes = disk_bytes; }
  // Writes the number of snapshots and the place of their table to the header. After an error it
  // is not known which table the header names.
  Task<Result<void>> write_snapshot_fields(uint32_t count, uint64_t table_offset);
  // Writes the header's fields again after a failed write, which may have left other values in
  // the file. Until this succeeds, no checkpoint can be written.
  Task<Result<void>> restore_header_locked();
  // Makes a read-only image show a snapshot. Must be called before the first request.
  void show_l1(uint64_t disk_bytes, uint64_t l1_offset, std::vector<uint64_t> l1);

 private:
  class Checkpoint;  // defined in metadata_checkpoint.cc

  bool owns_cluster(L2Entry entry) const;
  Result<Mapping> classify(L2Entry entry, uint64_t offset) const;
  Result<Mapping> map_by(std::span<const std::byte> slice, uint64_t offset, uint64_t length) const;
  void store_entry(std::span<std::byte> slice, uint64_t offset, L2Entry entry) const;
  Task<Result<void>> ensure_l2_table(uint64_t l1_index);
  bool should_free() const;
  Task<Result<void>> write_l1(uint64_t first_cluster, const std::vector<uint64_t>& l1);
  Task<Result<void>> write_l1_fields(uint64_t disk_bytes, uint64_t l1_offset, uint64_t entries);

  File& file_;
  File* data_file_ = nullptr;
  const bool read_only_;

  Header header_;
  std::vector<uint64_t> l1_;
  std::set<uint64_t> dirty_l1_;
  // Writing the disk's size and the L1 table's place to the header failed, so the file may have
  // other values.
  bool l1_fields_unknown_ = false;
  ClusterRun other_l1_;  // the other L1 table that the header may name; it stays allocated
  TableCache l2_;
  Refcounts refcounts_;
  bool writing_ = false;  // the auto-clear features are cleared

  struct Free {
    ClusterRun clusters;
    bool punch;
  };
  std::vector<Free> unmapped_;  // released since the last checkpoint began
  uint64_t unmapped_clusters_ = 0;
  std::vector<Free> frees_;  // clusters to which no table on stable storage points
  // End of the last compressed cluster, where the next one can be appended; 0: the next one
  // needs a new host cluster.
  uint64_t compressed_end_ = 0;
  uint64_t compressed_generation_ = 0;

  RangeLock lock_;  // used as one lock, for the whole image
};

}  // namespace qcow2

}  // namespace wick::block
