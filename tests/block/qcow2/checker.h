// Checks a qcow2 image in memory like qemu-img check, but thousands of times a second. It is
// written from the specification alone (QEMU's docs/interop/qcow2.txt) and shares no code with
// block/.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "tests/fakes/sparse_bytes.h"

namespace wick::block {

class Qcow2Checker {
 public:
  // `loose_flags`: while snapshots change, refcounts and COPIED flags may not match. Then only
  // writing in place to a cluster that is used twice is wrong.
  explicit Qcow2Checker(const fakes::SparseBytes& image, bool loose_flags = false)
      : image_(image), loose_flags_(loose_flags) {}

  // Faults that would lose or mix up data, one per line; empty if there are only leaks.
  const std::string& faults() const { return faults_; }
  // Clusters counted more often than they are used.
  uint64_t leaks() const { return leaks_; }

  void run() {
    if (at<uint32_t>(0) != 0x514649fb) return fault("no magic");
    version_ = at<uint32_t>(4);
    bits_ = at<uint32_t>(20);
    if ((version_ != 2 && version_ != 3) || bits_ < 9 || bits_ > 21) return fault("no such header");
    const uint64_t incompatible = version_ == 3 ? at<uint64_t>(72) : 0;
    refcount_order_ = version_ == 3 ? at<uint32_t>(96) : 4;
    if (refcount_order_ > 6 || (incompatible & ~0x1cull) != 0) return fault("no such features");
    external_ = (incompatible & 4) != 0;
    extended_ = (incompatible & 0x10) != 0;
    uses_.resize((image_.size_bytes() + cluster() - 1) >> bits_);
    use(0, cluster(), kHeader);
    load_refcounts();
    tree(at<uint64_t>(40), at<uint32_t>(36), true);
    snapshots();
    for (uint64_t i = 0; i < uses_.size(); ++i) {
      if (refcount(i) < uses_[i].count)
        fault(fmt::format("cluster {:#x} is counted {} times and used {} times", i << bits_,
                          refcount(i), uses_[i].count));
      if (refcount(i) > uses_[i].count) ++leaks_;
    }
    for (const uint64_t offset : in_place_)
      if (uses_[offset >> bits_].count > 1)
        fault(fmt::format("{:#x} is used twice and written in place", offset));
  }

 private:
  enum Kind : uint8_t { kNone, kHeader, kCounts, kL1, kL2, kSnapshots, kData };
  struct Use {
    uint64_t count = 0;
    Kind kind = kNone;
  };
  static constexpr uint64_t kCopied = 1ull << 63;
  static constexpr uint64_t kCompressed = 1ull << 62;
  static constexpr uint64_t kOffset = 0x00ff'ffff'ffff'fe00;

  uint64_t cluster() const { return uint64_t{1} << bits_; }
  void fault(const std::string& text) { faults_ += text + "\n"; }

  template <typename T>
  T at(uint64_t offset) const {
    std::array<std::byte, sizeof(T)> bytes{};
    image_.read(offset, bytes);
    return load_be<T>(bytes);
  }
  std::vector<uint64_t> table(uint64_t offset, uint64_t entries) const {
    std::vector<std::byte> bytes(entries * 8);
    image_.read(offset, bytes);
    std::vector<uint64_t> values(entries);
    for (uint64_t i = 0; i < entries; ++i)
      values[i] = load_be<uint64_t>(std::span(bytes).subspan(i * 8));
    return values;
  }

  // Only L2 tables and data, which snapshots share, may be used twice.
  bool use(uint64_t offset, uint64_t length, Kind kind) {
    bool good = true;
    const uint64_t end = ((offset + length - 1) >> bits_) + 1;
    for (uint64_t i = offset >> bits_; i < end && good; ++i) {
      if (i >= uses_.size()) {
        fault(
            fmt::format("kind {} at {:#x} is beyond the end", static_cast<int>(kind), i << bits_));
        return false;
      }
      Use& now = uses_[i];
      good = now.count == 0 || (now.kind == kind && (kind == kL2 || kind == kData));
      if (!good)
        fault(fmt::format("kinds {} and {} both at {:#x}", static_cast<int>(now.kind),
                          static_cast<int>(kind), i << bits_));
      now = {now.count + 1, kind};
    }
    return good;
  }
  bool use_cluster(uint64_t offset, Kind kind) {
    if (offset % cluster() == 0) return use(offset, cluster(), kind);
    fault(fmt::format("kind {} at {:#x} is not aligned", static_cast<int>(kind), offset));
    return false;
  }

  // "Host cluster management"
  void load_refcounts() {
    const uint64_t offset = at<uint64_t>(48);
    const uint64_t bytes = uint64_t{at<uint32_t>(56)} << bits_;
    if (bytes == 0 || offset % cluster() != 0 || !use(offset, bytes, kCounts))
      return fault("no refcount table");
    const uint64_t per_block = cluster() * 8 >> refcount_order_;
    counts_.resize(uses_.size());
    std::vector<std::byte> block(cluster());
    uint64_t first = 0;
    for (const uint64_t entry : table(offset, bytes / 8)) {
      if (entry != 0 && use_cluster(entry, kCounts)) {
        image_.read(entry, block);
        for (uint64_t i = 0; i < per_block && first + i < counts_.size(); ++i)
          counts_[first + i] = load_count(block, i);
      }
      first += per_block;
    }
  }
  uint64_t load_count(std::span<const std::byte> block, uint64_t index) const {
    const uint64_t bit = index << refcount_order_;
    uint64_t value = 0;
    if (refcount_order_ < 3) {
      value = static_cast<uint64_t>(block[bit / 8]) >> bit % 8;
      return value & ((1u << (1u << refcount_order_)) - 1);
    }
    for (uint64_t i = 0; i < (1u << refcount_order_) / 8; ++i)
      value = value << 8 | static_cast<uint64_t>(block[bit / 8 + i]);
    return value;
  }
  uint64_t refcount(uint64_t index) const { return index < counts_.size() ? counts_[index] : 0; }

  // The COPIED flag is kept in the active tree only.
  void check_copied(uint64_t entry, bool active, const char* what) {
    const bool alone = refcount((entry & kOffset) >> bits_) == 1;
    if (active && loose_flags_ && (entry & kCopied) != 0) in_place_.push_back(entry & kOffset);
    if (active && !loose_flags_ && alone != ((entry & kCopied) != 0))
      fault(fmt::format("{} entry {:#x} with refcount {}", what, entry,
                        refcount((entry & kOffset) >> bits_)));
  }

  // "Cluster mapping"
  void tree(uint64_t l1_offset, uint64_t l1_entries, bool active) {
    if (l1_entries == 0) return;
    if (l1_offset % cluster() != 0 || !use(l1_offset, l1_entries * 8, kL1))
      return fault("no L1 table");
    uint64_t guest = 0;
    for (const uint64_t entry : table(l1_offset, l1_entries)) {
      const uint64_t start =
          std::exchange(guest, guest + (cluster() / (extended_ ? 16 : 8) << bits_));
      if (entry == 0) continue;
      if ((entry & ~(kCopied | kOffset)) != 0) fault(fmt::format("L1 entry {:#x}", entry));
      if (!use_cluster(entry & kOffset, kL2)) continue;
      check_copied(entry, active, "L1");
      const auto l2 = table(entry & kOffset, cluster() / 8);
      for (size_t i = 0; i < l2.size(); i += extended_ ? 2 : 1)
        l2_entry(l2[i], extended_ ? l2[i + 1] : 0, active,
                 start + (i / (extended_ ? 2 : 1) << bits_));
    }
  }
  void l2_entry(uint64_t entry, uint64_t bitmap, bool active, uint64_t guest) {
    if (external_) {
      const bool there = (entry & kCopied) != 0;
      if ((entry & kCompressed) != 0 || (entry & kOffset) != (there ? guest : 0))
        fault(fmt::format("L2 entry {:#x} of {:#x} with a data file", entry, guest));
      if (extended_ &&
          ((bitmap & bitmap >> 32 & 0xffff'ffff) != 0 || (!there && (bitmap & 0xffff'ffff) != 0)))
        fault(fmt::format("L2 entry {:#x} with bitmap {:#x}", entry, bitmap));
      return;
    }
    if ((entry & kCompressed) != 0) {
      const uint32_t shift = 62 - (bits_ - 8);
      const uint64_t offset = entry & ((1ull << shift) - 1);
      const uint64_t sectors = ((entry & (kCompressed - 1)) >> shift) + 1;
      use(offset, sectors * 512 - offset % 512, kData);
      if ((entry & kCopied) != 0) fault(fmt::format("L2 entry {:#x} compressed, copied", entry));
      return;
    }
    const uint64_t zero = version_ == 3 && !extended_ ? 1 : 0;
    if ((entry & ~(kCopied | kOffset | zero)) != 0) fault(fmt::format("L2 entry {:#x}", entry));
    const uint64_t allocated = bitmap & 0xffff'ffff;
    if ((allocated & bitmap >> 32) != 0 || (allocated != 0 && (entry & kOffset) == 0))
      fault(fmt::format("L2 entry {:#x} with bitmap {:#x}", entry, bitmap));
    if ((entry & kOffset) == 0) {
      if ((entry & kCopied) != 0) fault(fmt::format("L2 entry {:#x}", entry));
      return;
    }
    if (use_cluster(entry & kOffset, kData)) check_copied(entry, active, "L2");
  }

  // "Snapshots"
  void snapshots() {
    uint64_t offset = at<uint64_t>(64);
    const uint64_t start = offset;
    const uint32_t count = at<uint32_t>(60);
    if (count == 0) return;
    for (uint32_t i = 0; i < count; ++i) {
      tree(at<uint64_t>(offset), at<uint32_t>(offset + 8), false);
      const uint64_t extra = at<uint32_t>(offset + 36);
      const uint64_t names = uint64_t{at<uint16_t>(offset + 12)} + at<uint16_t>(offset + 14);
      offset = align_up(offset + 40 + extra + names, 8);
    }
    use(start, offset - start, kSnapshots);
  }

  const fakes::SparseBytes& image_;
  uint32_t version_ = 0;
  uint32_t bits_ = 0;
  uint32_t refcount_order_ = 0;
  bool external_ = false;
  bool extended_ = false;
  bool loose_flags_ = false;
  std::vector<Use> uses_;           // by cluster
  std::vector<uint64_t> counts_;    // by cluster, as the image says
  std::vector<uint64_t> in_place_;  // offsets of clusters with the COPIED flag
  std::string faults_;
  uint64_t leaks_ = 0;
};

}  // namespace wick::block
