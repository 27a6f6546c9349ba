// A qcow2 image as a disk (qcow2 specification: QEMU's docs/interop/qcow2.txt).
//
// What keeps the file consistent at every instant: metadata changes in memory
// and goes to the file in checkpoints, at a flush or when much has gathered.
// A checkpoint writes the reference counts as they were at its start; when they
// and all data are stable, the L2 tables as they were at its start; then the L1
// entries; and only when those are stable it lets go of the clusters that are
// no longer mapped. So whatever a table in the file points to is counted and
// holds its data, and a crash at any point leaves at most leaked clusters.
//
// The host's disk may fill up at any moment: the space of a table's cluster is
// reserved when it is allocated, and that of an old table before it changes in
// memory. So the request that needs more space than there is fails, by itself, and
// a checkpoint needs none.
//
// Requests for clusters that stay where they are run side by side; one that
// changes a cluster's place has that cluster for itself; allocation and
// checkpoints happen one at a time.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "block/backend.h"
#include "block/byte_budget.h"
#include "block/file.h"
#include "block/qcow2/format.h"
#include "block/qcow2/refcounts.h"
#include "block/qcow2/snapshots.h"
#include "block/qcow2/tables.h"
#include "block/range_lock.h"

namespace wick::block {

// Of the memory that the requests of one disk, all images of its chain together, hold for
// data that is not the guest's. Who holds some of the first may wait for the second.
struct BounceBudget {
  ByteBudget copied_up{32 << 20};     // the rest of clusters that are written in part
  ByteBudget decompressed{32 << 20};  // compressed clusters, before and after
};

struct Qcow2Options {
  bool read_only = false;
  // Of tables in memory, besides the L1 and the refcount table.
  uint64_t cache_bytes = 0;
  std::shared_ptr<BounceBudget> bounce = nullptr;  // none: one of its own
};

// Where a range of the disk is: a value.
struct Mapping {
  enum class Kind : uint8_t { kUnallocated, kZero, kData, kCompressed };

  Kind kind = Kind::kUnallocated;
  uint64_t length_bytes = 0;
  uint64_t host_offset = 0;  // of its first byte; kCompressed: of the cluster's
  bool has_cluster = false;  // not compressed: host_offset is its own, of zeroes too
  bool in_place = false;     // kData: may be written where it is
  uint64_t compressed_bytes = 0;
};

class Qcow2 final : public Backend {
 public:
  // Refuses what cannot be read, and for writing what must not be written, by
  // name. Backing and data file are the caller's to open, and to set before the
  // first request, if the header names them. Stop with flush(), then destroy.
  static Task<Result<std::unique_ptr<Qcow2>>> open(std::unique_ptr<File> file,
                                                   const Qcow2Options& options);

  const qcow2::Header& header() const { return header_; }
  const std::string& path() const { return file_->path(); }
  // `backing` is only read as long as it is here, and by this image alone.
  void set_backing(std::unique_ptr<Backend> backing) {
    backing_ = std::move(backing);
    backing_image_ = dynamic_cast<Qcow2*>(backing_.get());
  }
  Backend* backing() const { return backing_.get(); }
  std::unique_ptr<Backend> take_backing() {
    backing_image_ = nullptr;
    return std::move(backing_);
  }
  void set_data_file(std::unique_ptr<File> data) { data_file_ = std::move(data); }

  uint64_t size_bytes() const override { return header_.size_bytes / 512 * 512; }
  bool read_only() const override { return options_.read_only; }
  Fd pin() const override { return file_->pin(); }
  bool can_discard() const override { return !options_.read_only; }
  // Version 2 has no clusters of zeroes.
  bool zeroes_fast(bool may_unmap) const override {
    return header_.version >= 3 && (!data_file_ || data_file_->zeroes_fast(may_unmap));
  }
  Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) override;
  Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) override;
  Task<Result<void>> flush() override;
  Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) override;
  Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                  bool may_unmap) override;
  Task<Result<Extent>> extent(uint64_t offset_bytes, uint64_t length_bytes) override;

  // The announced size (announced_size.h); or of raw external data the length of that file.
  // The disk can only become larger. After an error it has its old size, and is as usable as
  // before; but after one of the very last step it has the new one.
  Task<Result<void>> update_size() override;

  // Cuts the disk, or makes it longer by zeroes. A multiple of 512. While it is cut nobody
  // else uses the disk. After an error of this, or of a change of snapshots, it is not
  // known what the header says: the image must be opened anew.
  Task<Result<void>> resize(uint64_t size_bytes);

  // Unmaps clusters behind the disk's end, which are zeroes after a cut. Before it grows
  // again, resize() hides a backing file there anyway. A data file is left as it is.
  Task<Result<void>> unmap_behind_end();

  // Internal snapshots; for all but the list nobody else uses the disk meanwhile.
  // They are called by their ID, or else by their name.
  Task<Result<std::vector<qcow2::Snapshot>>> snapshots();
  Task<Result<void>> create_snapshot(const std::string& name);
  Task<Result<void>> apply_snapshot(const std::string& name);
  Task<Result<void>> delete_snapshot(const std::string& name);
  // A read-only disk then reads as it was; nobody has used it yet.
  Task<Result<void>> show_snapshot(const std::string& name);

  // The cluster at `offset_bytes` becomes what compress() made `packed` of.
  Task<Result<void>> write_compressed(uint64_t offset_bytes, std::span<const std::byte> packed);
  // After the last of them: flushes, and ends the file with a whole sector, as programs
  // that read it without a page cache want. Nobody else uses the disk meanwhile.
  Task<Result<void>> end_compressed();

  // All that the image holds goes; it then reads as its backing file.
  Task<Result<void>> make_empty();

  // Where the range starts, and for how many of its bytes that goes on.
  Task<Result<Mapping>> map(uint64_t offset_bytes, uint64_t length_bytes);
  // Whether the range is known to read as zeroes without reading data.
  Task<Result<bool>> reads_as_zeroes(uint64_t offset_bytes, uint64_t length_bytes);

 private:
  using Run = qcow2::ClusterRun;

  Qcow2(std::unique_ptr<File> file, const Qcow2Options& options, qcow2::Header header,
        std::vector<uint64_t> l1, std::vector<uint64_t> refcount_table);

  std::unexpected<Error> corrupt(const char* what, uint64_t value) const;
  Result<void> check_range(uint64_t offset, uint64_t length) const;
  Result<void> check_write(uint64_t offset, uint64_t length) const;
  bool is_table(Run clusters) const;
  bool is_metadata(Run clusters) const;
  Result<void> check_refcount_blocks() const;
  File& data() const { return data_file_ ? *data_file_ : *file_; }
  // Whether the data file is the disk, byte by byte.
  bool raw_data() const { return data_file_ && (header_.autoclear & qcow2::kRawExternalData) != 0; }
  uint64_t cluster_of(uint64_t offset) const { return offset >> header_.cluster_bits; }
  uint64_t l1_index(uint64_t offset) const { return cluster_of(offset) / header_.l2_entries(); }
  // Of the disk's range that one slice of an L2 table maps.
  uint64_t slice_span() const {
    return l2_.slice_bytes() / header_.l2_entry_bytes() << header_.cluster_bits;
  }

  struct Entry {
    uint64_t descriptor = 0;
    uint64_t bitmap = 0;  // extended L2 entries only
  };
  // Offset in the file; the table exists.
  uint64_t entry_offset(uint64_t offset) const;
  Entry load_entry(std::span<const std::byte> slice, uint64_t offset) const;
  void store_entry(std::span<std::byte> slice, uint64_t offset, Entry entry) const;
  Result<Mapping> classify(Entry entry, uint64_t offset) const;
  bool owns_cluster(Entry entry) const;
  Result<void> check_l2_table(uint64_t l1_index) const;

  Result<Mapping> map_by(std::span<const std::byte> slice, uint64_t offset, uint64_t length) const;
  std::optional<Mapping> map_at_once(uint64_t offset, uint64_t length);
  Task<Result<void>> read_locked(uint64_t offset, std::span<const iovec> buffers);
  Task<Result<void>> read_mapped(const Mapping& mapping, uint64_t offset,
                                 std::span<const iovec> buffers);
  // Where a range that this image does not hold comes from: the first image below that
  // holds it, or the disk that ends the chain, or zeroes behind the end of one.
  struct Below {
    uint64_t length_bytes = 0;  // of the range, for which that goes on
    Qcow2* image = nullptr;
    Mapping mapping = {};  // of `image`
    Backend* disk = nullptr;
    int depth = 0;         // of `image`, `disk` or what has the end
    bool present = false;  // zeroes: behind the end of a backing file
  };
  Task<Result<Below>> find_below(uint64_t offset, uint64_t length);
  Task<Result<Extent>> extent_of(Mapping mapping);
  Task<Result<void>> read_backing(uint64_t offset, std::span<const iovec> buffers);
  Task<Result<void>> read_compressed(const Mapping& mapping, uint64_t offset,
                                     std::span<const iovec> buffers);

  Task<Result<void>> begin_writing();
  Task<Result<uint64_t>> write_some(uint64_t offset, std::span<const iovec> buffers);
  Task<Result<void>> write_in_place(const Mapping& mapping, std::span<const iovec> buffers);
  Task<Result<uint64_t>> write_allocating(uint64_t offset, std::span<const iovec> buffers,
                                          uint64_t length);
  Task<Result<void>> old_content(uint64_t offset, std::span<std::byte> to, bool fresh,
                                 bool& needed);
  Task<Result<uint64_t>> place_compressed(uint64_t length);
  Task<Result<void>> ensure_l2_table(uint64_t l1_index);
  void release_cluster(Entry entry, bool punch);
  void release_clusters(Run clusters, bool punch);
  // True if the pending frees are large enough to force a checkpoint.
  bool should_free() const;
  enum class Clear : uint8_t { kDiscard, kUnmap, kKeep, kForget };  // what becomes of it
  Task<Result<void>> clear(uint64_t offset, uint64_t length, Clear how);
  Task<Result<void>> zero_part(uint64_t offset, uint64_t length);
  Task<Result<bool>> is_preallocated();

  struct Free {
    Run clusters;
    bool punch;
  };
  // What a checkpoint writes.
  struct Changes {
    qcow2::Refcounts::Copies counts;
    std::vector<qcow2::TableCache::Copy> tables;
    std::set<uint64_t> l1;
    std::vector<Free> unmapped;
  };
  Task<Result<void>> checkpoint_when_due();
  Task<Result<void>> checkpoint(bool stable);
  Task<Result<void>> checkpoint_locked(bool stable);
  Task<Result<void>> write_changes(Changes& changes, bool stable);
  bool maps_uncounted(const qcow2::TableCache::Copy& entries,
                      const qcow2::Refcounts::Copies& counts) const;
  Task<Result<void>> sync_all();
  Task<Result<uint64_t>> allocate_l1(uint64_t size, uint64_t entries);
  Task<Result<void>> write_l1_fields(uint64_t size, uint64_t l1_offset, uint64_t entries);
  Task<Result<void>> write_l1(uint64_t first, const std::vector<uint64_t>& l1);
  Task<Result<void>> switch_l1(uint64_t size, uint64_t first, std::vector<uint64_t> l1);
  Task<Result<void>> write_size(uint64_t size);
  Task<Result<void>> restore_l1_fields();
  Task<Result<void>> make_room(uint64_t size);
  Task<Result<void>> map_raw_data(uint64_t offset, uint64_t end);
  Task<Result<void>> cut_tail();

  enum class Count { kCheck, kAdd, kFree };
  Task<Result<void>> count_tree(const std::vector<uint64_t>& l1, Count count);
  Task<Result<void>> count_run(Run clusters, Count count);
  Task<Result<void>> set_copied_flags();
  Task<Result<uint64_t>> allocate_snapshots(const std::vector<qcow2::Snapshot>& snapshots);
  Task<Result<void>> write_snapshots(const std::vector<qcow2::Snapshot>& snapshots, uint64_t first);
  Task<Result<void>> apply_frees();

  const std::unique_ptr<File> file_;
  const Qcow2Options options_;
  const std::shared_ptr<BounceBudget> bounce_;
  std::unique_ptr<File> data_file_;
  std::unique_ptr<Backend> backing_;
  Qcow2* backing_image_ = nullptr;  // backing_, if it is one

  qcow2::Header header_;
  std::vector<uint64_t> l1_;
  std::set<uint64_t> dirty_l1_;
  // In the file the header's fields of the size and of the L1 table may be others, because
  // writing them failed. Until restore_l1_fields() nothing may be built on the table in use.
  bool l1_fields_unknown_ = false;
  Run other_l1_;  // the table that the header may name then; its clusters are counted
  qcow2::TableCache l2_;
  qcow2::Refcounts refcounts_;
  bool writing_ = false;              // auto-clear features are cleared
  std::optional<bool> preallocated_;  // once extent() wanted to know

  std::vector<Free> unmapped_;  // since the last checkpoint began
  uint64_t unmapped_clusters_ = 0;
  std::vector<Free> frees_;      // no stable table points there any more
  uint64_t compressed_end_ = 0;  // the next compressed cluster may go on there

  RangeLock clusters_;  // of the guest's disk
  RangeLock metadata_;  // one range: allocation, checkpoints

  // The last compressed cluster that was read.
  uint64_t decompressed_entry_ = 0;  // 0: none
  std::vector<std::byte> decompressed_;
};

}  // namespace wick::block
