// Counts the references to each cluster of a qcow2 image. The image's refcounts should be equal to
// these numbers (qcow2 specification, "Host cluster management").
//
// Nothing in the image is trusted. Each table is read once, however many entries point to it,
// and holes of the file are not read. Memory is bounded by the data in the file, not by its
// length or by what its tables claim: about 40 bytes for each 8 bytes of a table.
//
// Thread rule: as for File.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "block/file.h"
#include "block/qcow2/format.h"
#include "block/qcow2/snapshots.h"
#include "block/qcow2/tables.h"

namespace wick::block::qcow2 {

struct CheckReport {
  uint64_t corruptions = 0;
  uint64_t leaks = 0;
  uint64_t check_errors = 0;  // clusters that could not be checked
  uint64_t corruptions_fixed = 0;
  uint64_t leaks_fixed = 0;

  uint64_t image_end_bytes = 0;
  uint64_t total_clusters = 0;  // the virtual disk's size in clusters
  uint64_t allocated_clusters = 0;
  uint64_t fragmented_clusters = 0;
  uint64_t compressed_clusters = 0;

  bool clean() const { return corruptions + leaks + check_errors == 0; }
};

// Called with each finding, in one line.
using Tell = std::function<void(const std::string& finding)>;

// The number of references to each cluster. The numbers are in a hash table while few clusters are
// in use, and later in an array over the file's clusters.
class ClusterCounts {
 public:
  static constexpr uint32_t kMaxCount = 0x7fff'ffff;

  // Sets the length of the array. Clusters behind its end may be counted, too.
  void set_file_clusters(uint64_t clusters) { file_clusters_ = clusters; }
  uint64_t get(uint64_t cluster) const { return find(cluster) & kMaxCount; }
  // Adds `count` to the cluster's count, which does not exceed kMaxCount.
  void add(uint64_t cluster, uint64_t count);
  // Returns whether one of these clusters has a count.
  bool any(uint64_t first, uint64_t count) const;
  uint64_t end() const { return end_; }  // the first cluster behind all counted ones

  // Returns whether the cluster contains a table other than an L2 table, or a part of such a table.
  bool is_table(uint64_t cluster) const { return find(cluster) > kMaxCount; }
  void set_table(uint64_t cluster) { place(cluster) |= kMaxCount + 1; }

 private:
  struct Slot {
    uint32_t cluster = kNone;
    uint32_t value = 0;
  };
  static constexpr uint32_t kNone = ~0u;  // References::count() allows fewer clusters

  uint32_t find(uint64_t cluster) const;
  uint32_t& place(uint64_t cluster);
  size_t slot_of(uint64_t cluster) const;
  void grow();

  static constexpr uint64_t kRange = 1024;

  const uint64_t key_ = uint64_t{std::random_device{}()} << 32 | std::random_device{}();
  uint64_t file_clusters_ = 0;
  std::vector<bool> ranges_;     // for each kRange clusters, whether any is counted
  std::vector<uint32_t> array_;  // empty: the slots are in use
  std::vector<Slot> slots_;      // their number is a power of two
  uint64_t used_slots_ = 0;
  uint64_t end_ = 0;
};

// The clusters to which an L2 entry points, and whether the entry by itself is already wrong.
struct L2Finding {
  const char* wrong = nullptr;
  bool compressed = false;
  uint64_t offset = 0;
  uint64_t length_bytes = 0;  // 0: it points to nothing in the image's file
  bool allocated = false;
};
L2Finding examine_l2_entry(const Header& header, uint64_t descriptor, uint64_t bitmap);

constexpr uint64_t kL1Reserved = 0x7f00'0000'0000'01ff;
constexpr uint64_t kL2Reserved = 0x3f00'0000'0000'01fe;
constexpr uint64_t kRefcountTableReserved = 0x1ff;

class References {
 public:
  struct L1Table {
    uint64_t offset = 0;
    uint64_t entries = 0;
    uint64_t users = 0;  // how many of the disk and the snapshots have this table
    bool active = false;
  };
  struct L2Table {
    uint64_t offset = 0;
    uint32_t users = 0;
    uint32_t active = 0;  // how many of the users are in the disk's L1 table
  };

  // All arguments must outlive this object. Findings go to `report` and `tell`.
  References(File& file, const Header& header, CheckReport& report, const Tell& tell)
      : file_(file), header_(header), report_(report), tell_(tell), reader_(file) {}

  // Counts all references. If `refcount_table` is empty, neither the refcount table nor its blocks
  // are counted. With `only_usual`, fails early if the tables are far larger than the data in the
  // file.
  Task<Result<void>> count(const std::vector<uint64_t>& refcount_table, bool only_usual = false);

  const ClusterCounts& counts() const { return counts_; }
  ClusterCounts& counts() { return counts_; }
  const std::vector<L1Table>& l1_tables() const { return l1_tables_; }
  const std::vector<L2Table>& l2_tables() const { return l2_tables_; }  // sorted by offset
  bool is_l2_table(uint64_t offset) const;
  // Returns whether an entry may point to the range. A part of its last cluster may be behind the
  // file's end.
  bool in_file(uint64_t offset, uint64_t length_bytes) const;
  // Returns whether entries of tables must be repaired, and not only counts.
  bool entries_are_wrong() const { return entries_are_wrong_; }
  // Returns whether the refcount table and its blocks must be rebuilt.
  bool must_rebuild() const { return must_rebuild_; }
  // Returns whether the snapshot table must be rewritten with the snapshots that are usable.
  bool snapshots_are_wrong() const { return snapshots_are_wrong_; }
  uint64_t file_clusters() const { return file_clusters_; }

  void corruption(const std::string& finding);

 private:
  enum class Use { kTable, kL2, kData };

  bool add(uint64_t offset, uint64_t length_bytes, uint64_t times, Use use);
  Task<Result<void>> find_l1_tables();
  Result<void> check_claims() const;
  template <typename F>
  Task<Result<void>> for_each_entry(uint64_t offset, uint64_t entries, F each);
  Task<Result<void>> count_l1(const L1Table& table);
  void merge_l2_tables();
  Task<Result<void>> count_l2(const L2Table& table);
  Task<Result<void>> count_bitmaps();
  void count_refcount_blocks(const std::vector<uint64_t>& table);

  File& file_;
  const Header& header_;
  CheckReport& report_;
  const Tell& tell_;
  uint64_t file_bytes_ = 0;
  uint64_t file_clusters_ = 0;

  TableReader reader_;
  ClusterCounts counts_;
  std::vector<L1Table> l1_tables_;
  std::vector<L2Table> l2_tables_;
  size_t merged_l2_tables_ = 0;  // this many at the front are sorted and unique
  bool entries_are_wrong_ = false;
  bool must_rebuild_ = false;
  bool snapshots_are_wrong_ = false;
};

}  // namespace wick::block::qcow2
