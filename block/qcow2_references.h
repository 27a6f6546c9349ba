// What the tables of a qcow2 image point to, and how often: the counts that its
// reference counts should be (qcow2 specification, "Host cluster management").
//
// Nothing of the image is trusted. Each table is read once, whatever points to it,
// and what is kept is bounded by what the file really holds.
//
// Thread rule: as for File.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "block/file.h"
#include "block/qcow2_format.h"
#include "block/qcow2_snapshots.h"

namespace wick::block::qcow2 {

struct CheckReport {
  uint64_t corruptions = 0;
  uint64_t leaks = 0;
  uint64_t check_errors = 0;  // what could not be checked
  uint64_t corruptions_fixed = 0;
  uint64_t leaks_fixed = 0;

  uint64_t image_end_bytes = 0;
  uint64_t total_clusters = 0;  // of the disk
  uint64_t allocated_clusters = 0;
  uint64_t fragmented_clusters = 0;
  uint64_t compressed_clusters = 0;

  bool clean() const { return corruptions + leaks + check_errors == 0; }
};

// Is told of each finding, in one line.
using Tell = std::function<void(const std::string& finding)>;

// Numbers of clusters, of which few may be spread over a huge sparse file.
class ClusterCounts {
 public:
  static constexpr uint64_t kChunk = 64;

  uint64_t get(uint64_t cluster) const {
    const auto chunk = chunks_.find(cluster / kChunk);
    return chunk == chunks_.end() ? 0 : chunk->second[cluster % kChunk];
  }
  void add(uint64_t cluster, uint64_t count);
  // Whether any of the clusters may be counted; `first` is a multiple of kChunk, or
  // `count` is less.
  bool any(uint64_t first, uint64_t count) const;
  uint64_t end() const { return end_; }  // behind the last counted cluster

 private:
  std::unordered_map<uint64_t, std::array<uint32_t, kChunk>> chunks_;
  uint64_t end_ = 0;
};

// What one L2 entry points to, and what is wrong with it by itself.
struct L2Finding {
  const char* wrong = nullptr;
  bool compressed = false;
  uint64_t offset = 0;
  uint64_t length_bytes = 0;  // 0: nothing in the image's file
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
    uint64_t users = 0;  // the disk, snapshots
    bool active = false;
  };
  struct L2Table {
    uint64_t users = 0;
    uint64_t active = 0;  // of them of the active L1 table
  };

  // All must outlive this. Findings go to `report` and `tell`.
  References(File& file, const Header& header, CheckReport& report, const Tell& tell)
      : file_(file), header_(header), report_(report), tell_(tell) {}

  // `refcount_table` empty: its blocks and itself are not counted.
  Task<Result<void>> count(const std::vector<uint64_t>& refcount_table);

  const ClusterCounts& counts() const { return counts_; }
  const std::vector<L1Table>& l1_tables() const { return l1_tables_; }
  const std::map<uint64_t, L2Table>& l2_tables() const { return l2_tables_; }
  // Whether a table lies there other than an L2 table.
  bool is_other_table(uint64_t cluster) const { return others_.get(cluster) > 0; }
  // Whether a range may be pointed to: all but a part of a cluster is in the file.
  bool in_file(uint64_t offset, uint64_t length_bytes) const;
  // The tables themselves must be mended, not only counts.
  bool entries_are_wrong() const { return entries_are_wrong_; }
  // The refcount table or its blocks must be made anew.
  bool must_rebuild() const { return must_rebuild_; }
  uint64_t file_clusters() const { return file_clusters_; }

  void corruption(const std::string& finding);

 private:
  enum class Use { kTable, kL2, kData };

  bool add(uint64_t offset, uint64_t length_bytes, uint64_t times, Use use);
  Task<Result<void>> find_l1_tables();
  Task<Result<void>> count_l1(const L1Table& table);
  Task<Result<void>> count_l2(uint64_t offset, const L2Table& table);
  Task<Result<void>> count_bitmaps();
  void count_refcount_blocks(const std::vector<uint64_t>& table);

  File& file_;
  const Header& header_;
  CheckReport& report_;
  const Tell& tell_;
  uint64_t file_bytes_ = 0;
  uint64_t file_clusters_ = 0;

  ClusterCounts counts_;
  ClusterCounts others_;
  std::vector<L1Table> l1_tables_;
  std::map<uint64_t, L2Table> l2_tables_;
  bool entries_are_wrong_ = false;
  bool must_rebuild_ = false;
};

}  // namespace wick::block::qcow2
