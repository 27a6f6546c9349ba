// The metadata of a qcow2 image: its header, L1 and L2 tables and reference counts (qcow2
// specification: QEMU's docs/interop/qcow2.txt). It maps the disk to the file, allocates
// clusters, and writes its changes to the file. It does not read or write the guest's data.
//
// Crashes. Changes are made in memory, and written by a checkpoint: at a flush, or when there
// are many. A checkpoint writes the reference counts as they were when it started; when these
// and all data are stable, the L2 tables as they were when it started; then the L1 entries; and
// when those are stable, it frees the clusters that are no longer mapped. So each cluster that
// a table in the file points to is counted and contains its data. A crash at any point leaves
// at most leaked clusters.
//
// Full disks of the host. The space of a table's cluster is reserved when the cluster is
// allocated, and that of an existing table before it changes in memory. So the request that
// needs more space than there is fails, and a checkpoint needs none.
//
// Thread rule: one EventLoop. lock() serializes allocation, checkpoints and changes of the
// header. Functions take it themselves; those whose names end in _locked expect that the
// caller holds it. A command during which nobody else uses the disk need not take it. The
// mapping of a guest cluster is changed only by a caller that has the cluster for itself
// (Qcow2::clusters_).
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
  uint64_t host_offset = 0;       // of the range's first byte; kCompressed: of the cluster's data
  bool has_cluster = false;       // host_offset is valid; not set for kCompressed
  bool in_place = false;          // kData: may be written at host_offset
  uint64_t compressed_bytes = 0;  // kCompressed
};

namespace qcow2 {

struct L2Entry {
  uint64_t descriptor = 0;
  uint64_t bitmap = 0;  // extended L2 entries only
};

// A place for data that cannot be written where it is mapped.
struct Allocation {
  uint64_t offset = 0;          // on the disk, of the first cluster
  uint64_t host_offset = 0;     // in the file that has the data
  std::vector<L2Entry> old;     // of each cluster: the entry that is replaced
  bool reuses_cluster = false;  // the old entry's cluster, of which some subclusters are new
  ClusterRun clusters;          // what is newly allocated; none in a data file
  bool fresh = false;           // unwritten bytes of `clusters` read as zeroes
  // What is written must be whole clusters, or whole subclusters if the others stay as they are.
  uint64_t granule_bytes = 0;
};

class Metadata {
 public:
  // `file` must outlive this. The other arguments are what it contains.
  Metadata(File& file, Header header, std::vector<uint64_t> l1,
           std::vector<uint64_t> refcount_table, uint64_t cache_bytes, bool read_only);
  Metadata(const Metadata&) = delete;
  Metadata& operator=(const Metadata&) = delete;

  // Refuses refcount blocks at impossible places. The allocator relies on this check.
  Result<void> check_refcount_blocks() const;
  // The external data file, which must outlive this. Set before the first request.
  void set_data_file(File* data) { data_file_ = data; }

  const Header& header() const { return header_; }
  const std::string& path() const { return file_.path(); }
  bool read_only() const { return read_only_; }
  File& file() const { return file_; }
  File* data_file() const { return data_file_; }  // nullptr: the data is in file()
  File& data() const { return data_file_ != nullptr ? *data_file_ : file_; }
  // Whether the data file is the disk, byte by byte.
  bool has_raw_data() const {
    return data_file_ != nullptr && (header_.autoclear & kRawExternalData) != 0;
  }
  const std::vector<uint64_t>& l1() const { return l1_; }
  uint64_t l1_index(uint64_t offset) const {
    return header_.cluster_of(offset) / header_.l2_entries();
  }
  // Bytes of the disk that one slice of an L2 table maps.
  uint64_t slice_span() const {
    return l2_.slice_bytes() / header_.l2_entry_bytes() << header_.cluster_bits;
  }
  Refcounts& refcounts() { return refcounts_; }
  TableCache& l2_tables() { return l2_; }
  std::unexpected<Error> corrupt(const char* what, uint64_t value) const;

  // Mapping (metadata.cc)

  // The mapping of the longest first part of the range that is mapped in one piece.
  Task<Result<Mapping>> map(uint64_t offset_bytes, uint64_t length_bytes);
  // The same without waiting, if the whole range is data in one piece, as for most requests;
  // otherwise nullopt.
  std::optional<Mapping> map_at_once(uint64_t offset_bytes, uint64_t length_bytes);
  L2Entry load_entry(std::span<const std::byte> slice, uint64_t offset_bytes) const;
  // In the file; the L2 table exists.
  uint64_t entry_offset(uint64_t offset_bytes) const;
  // Refuses an L2 table at an impossible place.
  Result<void> check_l2_table(uint64_t l1_index) const;

  // Changes of the mapping (metadata_allocation.cc)

  // To be awaited before the first change; EROFS if the image is read-only.
  Task<Result<void>> begin_writing();
  bool writing() const { return writing_; }
  // Before a change of an L2 entry: creates its table, or copies one that a snapshot shares.
  Task<Result<void>> prepare_change(uint64_t offset_bytes);
  // Allocates a place for the first part of a range that is in one slice and mapped in one
  // piece. If it is not used, give_back() frees its clusters.
  Task<Result<Allocation>> allocate(uint64_t offset_bytes, uint64_t length_bytes);
  // Allocates a place for a compressed cluster of so many bytes; the same holds for it.
  Task<Result<uint64_t>> allocate_compressed(uint64_t length_bytes);
  Task<Result<void>> give_back(ClusterRun clusters);
  // Maps what was written to an allocation: the bytes of the disk from `from_bytes` on.
  Task<Result<void>> map_allocation(const Allocation& allocation, uint64_t from_bytes,
                                    uint64_t to_bytes);
  Task<Result<void>> map_compressed(uint64_t offset_bytes, CompressedRange range);
  // Unmaps whole clusters within one slice, after prepare_change(). `keep_clusters`: they stay
  // allocated, and read as zeroes. `hide_backing`: the others read as zeroes as well, if the
  // version allows that.
  Task<Result<void>> clear_entries(uint64_t offset_bytes, uint64_t length_bytes, bool keep_clusters,
                                   bool hide_backing);
  // Takes an L2 table out of the L1 table. The caller has released what it maps.
  void drop_l2_table(uint64_t l1_index, bool punch);
  void set_l1_entry(uint64_t l1_index, uint64_t entry);
  // Incremented when space of compressed clusters is released, so that a copy of a cluster
  // that was read earlier may be out of date.
  uint64_t compressed_generation() const { return compressed_generation_; }

  // Checkpoints (metadata_checkpoint.cc)

  RangeLock::Awaiter lock() { return lock_.exclusive(0, 0); }
  // `stable`: what completed before the call is on stable storage afterwards.
  Task<Result<void>> checkpoint(bool stable);
  Task<Result<void>> checkpoint_locked(bool stable);
  // To be awaited before a change that adds to what a checkpoint writes; bounds memory.
  Task<Result<void>> checkpoint_when_due();
  // Clusters that the disk does not use any more: they are freed by the next checkpoint.
  // `punch`: their space is given back to the host.
  void release(L2Entry entry, bool punch);
  void release_clusters(ClusterRun clusters, bool punch);
  // Clusters that no table in the file points to: they are freed now or by apply_frees().
  Task<Result<void>> free_clusters(ClusterRun clusters, bool punch);
  Task<Result<void>> apply_frees();

  // Changes of the header (metadata_header.cc)

  // Clusters for an L1 table of a disk of so many bytes. Their content is undefined.
  Task<Result<uint64_t>> allocate_l1_locked(uint64_t disk_bytes, uint64_t entries);
  // Writes a new L1 table to the clusters from `first_cluster` on, which allocate_l1_locked()
  // returned, and then its place and the disk's size to the header. Releases the clusters of
  // the old table, but not what it points to. If it fails, the new clusters are freed at once
  // or when restore_header_locked() succeeds.
  Task<Result<void>> switch_l1_locked(uint64_t disk_bytes, uint64_t first_cluster,
                                      std::vector<uint64_t> l1);
  // After an error the disk has its old size.
  Task<Result<void>> write_size_locked(uint64_t disk_bytes);
  // Only in memory, while something is done behind the disk's end.
  void set_size_in_memory(uint64_t disk_bytes) { header_.size_bytes = disk_bytes; }
  // After an error it is not known which table the header names.
  Task<Result<void>> write_snapshot_fields(uint32_t count, uint64_t table_offset);
  // If an earlier write of the header failed, its fields in the file may differ from those in
  // use. This writes those in use. Until it succeeds, no checkpoint can be written.
  Task<Result<void>> restore_header_locked();
  // Makes a read-only image show a snapshot. Before the first request.
  void show_l1(uint64_t disk_bytes, uint64_t l1_offset, std::vector<uint64_t> l1);

 private:
  class Checkpoint;  // metadata_checkpoint.cc

  bool is_table(ClusterRun clusters) const;
  bool is_metadata(ClusterRun clusters) const;
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
  // The header's fields of the size and of the L1 table may differ in the file, because
  // writing them failed.
  bool l1_fields_unknown_ = false;
  ClusterRun other_l1_;  // the table that the header may name then; its clusters are counted
  TableCache l2_;
  Refcounts refcounts_;
  bool writing_ = false;  // the auto-clear features are cleared

  struct Free {
    ClusterRun clusters;
    bool punch;
  };
  std::vector<Free> unmapped_;  // since the last checkpoint began
  uint64_t unmapped_clusters_ = 0;
  std::vector<Free> frees_;      // no table in stable storage points to them
  uint64_t compressed_end_ = 0;  // the next compressed cluster may begin here; 0: it may not
  uint64_t compressed_generation_ = 0;

  RangeLock lock_;  // of one range
};

}  // namespace qcow2

}  // namespace wick::block
