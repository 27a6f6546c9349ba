#include "block/qcow2/check.h"

#include <algorithm>
#include <unordered_set>

#include "base/bytes.h"
#include "block/qcow2/header.h"
#include "block/qcow2/repair.h"

namespace wick::block {

using namespace qcow2;

namespace {

class Checker {
 public:
  Checker(File& file, Header& header, const Tell& tell)
      : file_(file), header_(header), tell_(tell), references_(file, header, report_, tell) {}

  Task<Result<void>> run(bool only_usual) {
    if (header_.refcount_table_fault.empty()) {
      auto table = co_await read_refcount_table(file_, header_);
      if (!table) co_return failure(table);
      table_ = *std::move(table);
    }
    const bool twice = drop_repeated_blocks();
    if (twice && only_usual)
      co_return fail_errno(EFBIG, "{}: its refcount table names a block twice", file_.path());
    if (auto done = co_await references_.count(table_, only_usual); !done) co_return done;
    if (auto done = co_await compare_counts(); !done) co_return done;
    co_return co_await check_copied_flags();
  }

  const CheckReport& report() const { return report_; }
  const References& references() const { return references_; }
  const std::vector<uint64_t>& refcount_table() const { return table_; }
  const Mismatches& mismatches() const { return mismatches_; }

 private:
  // A refcount block belongs to one entry of the refcount table. If other entries name it, too,
  // they are treated as empty: otherwise a small file could have any number of clusters.
  // Returns whether there were such entries.
  bool drop_repeated_blocks() {
    std::vector<uint64_t> met;
    for (const uint64_t entry : table_)
      if (entry != 0) met.push_back(entry);
    std::ranges::sort(met);
    std::vector<uint64_t> repeated;
    for (size_t i = 1; i < met.size(); ++i)
      if (met[i] == met[i - 1]) repeated.push_back(met[i]);
    if (repeated.empty()) return false;
    std::unordered_set<uint64_t> kept;
    for (uint64_t& entry : table_) {
      if (!std::ranges::binary_search(repeated, entry)) continue;
      if (kept.insert(entry).second) continue;
      tell_(fmt::format("ERROR refcount block at {:#x} is named twice", entry));
      entry = 0;
      ++report_.corruptions;
      mismatches_.too_small = mismatches_.without_block = true;
    }
    return true;
  }

  Task<Result<void>> compare_counts() {
    const uint64_t per_block = header_.refcounts_per_block();
    const uint64_t end = std::max(references_.file_clusters(), references_.counts().end());
    std::vector<std::byte> block(header_.cluster_bytes());
    TableReader reader(file_);
    for (uint64_t first = 0; first < end; first += per_block) {
      const uint64_t index = first / per_block;
      const uint64_t count = std::min(per_block, end - first);
      const uint64_t place = index < table_.size() ? table_[index] & ~kRefcountTableReserved : 0;
      if (place % header_.cluster_bytes() != 0 || place >> 63 != 0) {
        report_.check_errors += count;
        continue;
      }
      if (place == 0 && !references_.counts().any(first, count)) continue;
      if (place == 0 || reader.is_hole(place, block.size())) {
        std::ranges::fill(block, std::byte{0});
      } else {
        if (auto got = co_await read_bytes(file_, place, block); !got) co_return got;
      }
      for (uint64_t i = 0; i < count; ++i)
        compare(first + i, load_refcount(block, i, header_.refcount_order), place != 0);
    }
    co_return Result<void>();
  }

  void compare(uint64_t cluster, uint64_t stored, bool has_block) {
    const uint64_t counted = std::min(references_.counts().get(cluster), header_.max_refcount());
    if (stored > 0 || counted > 0) report_.image_end_bytes = (cluster + 1) << header_.cluster_bits;
    if (stored == counted) return;
    const bool leaks = stored > counted;
    tell_(fmt::format("{} cluster {} refcount={} reference={}", leaks ? "Leaked" : "ERROR", cluster,
                      stored, counted));
    ++(leaks ? report_.leaks : report_.corruptions);
    mismatches_.leaks = mismatches_.leaks || leaks;
    mismatches_.too_small = mismatches_.too_small || !leaks;
    mismatches_.without_block = mismatches_.without_block || !has_block;
  }

  // "Cluster mapping": the flag is set if and only if the reference count is 1.
  Task<Result<void>> check_copied_flags() {
    Refcounts stored(file_, header_, usable_blocks(table_, header_, file_.size_bytes()),
                     kCacheBytes, [](ClusterRun) { return false; });
    for (const References::L1Table& table : references_.l1_tables()) {
      if (!table.active) continue;
      for (uint64_t start = 0; start < table.entries; start += kEntriesAtOnce) {
        const auto part = co_await read_table(file_, table.offset + start * 8,
                                              std::min(kEntriesAtOnce, table.entries - start));
        if (!part) co_return std::unexpected(part.error());
        for (uint64_t i = 0; i < part->size(); ++i) {
          const uint64_t l2 = (*part)[i] & kOffsetMask;
          if (l2 == 0) continue;
          if (auto done = co_await check_flag(stored, (*part)[i], "L1", start + i, 1, false); !done)
            co_return done;
        }
      }
    }
    TableReader reader(file_);
    for (const References::L2Table& table : references_.l2_tables()) {
      if (table.active == 0) continue;
      const auto entries = co_await reader.read(table.offset, header_.cluster_bytes() / 8);
      if (!entries) co_return std::unexpected(entries.error());
      const uint64_t step = header_.l2_entry_bytes() / 8;
      for (uint64_t i = 0; i < entries->size(); i += step) {
        const uint64_t entry = (*entries)[i];
        if ((entry & kCompressed) != 0 || (entry & kOffsetMask) == 0) continue;
        if (auto done = co_await check_flag(stored, entry, "L2", i / step, table.active,
                                            header_.external_data());
            !done)
          co_return done;
      }
    }
    co_return Result<void>();
  }

  Task<Result<void>> check_flag(Refcounts& stored, uint64_t entry, const char* table,
                                uint64_t index, uint64_t times, bool external) {
    // Clusters of a data file have no refcounts, because only this disk uses them.
    Result<uint64_t> count = 1;
    if (!external) count = co_await stored.get((entry & kOffsetMask) >> header_.cluster_bits);
    if (!count) co_return std::unexpected(count.error());
    if ((*count == 1) == ((entry & kCopied) != 0)) co_return Result<void>();
    report_.corruptions += times;
    mismatches_.copied_flags = true;
    tell_(fmt::format("ERROR {} entry {}: {:#x}: the copied flag, refcount={}", table, index, entry,
                      *count));
    co_return Result<void>();
  }

  static constexpr uint64_t kEntriesAtOnce = 8192;
  static constexpr uint64_t kCacheBytes = 1 << 20;

  File& file_;
  Header& header_;
  const Tell& tell_;
  CheckReport report_;
  References references_;
  std::vector<uint64_t> table_;
  Mismatches mismatches_;
};

bool is_flagged(const Header& header) { return (header.incompatible & (kDirty | kCorrupt)) != 0; }

}  // namespace

Task<Result<CheckReport>> check_qcow2(File& file, Repair repair, Tell tell, bool only_usual) {
  auto header = co_await read_header(file, Parse::kLenient);
  if (!header) co_return failure(header);
  // If the header does not name its data file, all data would be counted as leaked.
  if (auto named = check_data_file_named(*header, file.path()); !named) co_return failure(named);
  CheckReport before;
  bool writes = false;
  {
    Checker checker(file, *header, tell);
    if (auto done = co_await checker.run(only_usual); !done) co_return failure(done);
    before = checker.report();
    const bool repairs = repair == Repair::kAll
                             ? !before.clean()
                             : repair == Repair::kLeaks && checker.mismatches().leaks;
    if (repairs) {
      writes = true;
      auto repaired =
          co_await repair_qcow2(file, *header, checker.references(), checker.mismatches(),
                                checker.refcount_table(), repair == Repair::kAll);
      if (!repaired) co_return failure(repaired);
    }
  }
  CheckReport after = before;
  if (writes) {
    const Tell silent = [](const std::string&) {};
    Checker checker(file, *header, silent);
    if (auto done = co_await checker.run(only_usual); !done) co_return failure(done);
    after = checker.report();
    after.corruptions_fixed = before.corruptions - std::min(before.corruptions, after.corruptions);
    after.leaks_fixed = before.leaks - std::min(before.leaks, after.leaks);
  }
  if (repair != Repair::kNone && after.corruptions + after.check_errors == 0 &&
      is_flagged(*header)) {
    auto cleared = co_await clear_flags(file, *header);
    if (!cleared) co_return failure(cleared);
  }
  co_return after;
}

}  // namespace wick::block
