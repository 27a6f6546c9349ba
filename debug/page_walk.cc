#include "debug/page_walk.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "vmm/page_tables.h"

namespace wick::debug {

namespace {

using vmm::Page;
using vmm::PageTable;
using vmm::Paging;

// Collects the mappings of all vCPUs, and joins them.
class Collector final : public vmm::PageVisitor {
 public:
  Collector(const GuestMemory& memory, const WalkLimits& limits, std::stop_token stop)
      : memory_(memory), limits_(limits), stop_(std::move(stop)) {}

  Result<void> add(const Paging& paging) {
    const bool all = vmm::walk_page_tables(paging, memory_, *this,
                                           {.first = limits_.first, .last = limits_.last});
    return all ? Result<void>() : std::exchange(failed_, {});
  }

  Result<std::vector<Mapping>> finish() {
    TRY(join());
    std::ranges::sort(found_, {}, [](const Mapping& m) { return std::tie(m.linear, m.physical); });
    return std::move(found_);
  }

 private:
  // Skips a table that was walked before at the same level and linear address, such as the tables
  // of the kernel, which all vCPUs share. Only a table of 512 entries has the same meaning in all
  // modes of paging.
  Next on_table(const PageTable& table) override {
    if (table.level > 1 && table.entries == 512 && !walked_.insert(table).second)
      return Next::kSkip;
    if (++tables_ > limits_.tables)
      failed_ = fail("the guest's page tables are more than {}", limits_.tables);
    else if (stop_.stop_requested())
      failed_ = fail_errno(ECANCELED, "the guest's page tables");
    return failed_ ? Next::kRead : Next::kEnd;
  }

  bool on_page(const Page& page) override {
    failed_ = add_mapping(page.linear, page.physical, page.size_bytes);
    return failed_.has_value();
  }

  Result<void> add_mapping(uint64_t linear, uint64_t physical, uint64_t size_bytes) {
    if (!found_.empty()) {
      Mapping& last = found_.back();
      if (last.linear + last.size_bytes == linear && last.physical + last.size_bytes == physical) {
        last.size_bytes += size_bytes;
        return {};
      }
    }
    found_.push_back({linear, physical, size_bytes});
    // Equal mappings of several vCPUs are joined before they count against the limit.
    if (found_.size() >= 2 * limits_.mappings) TRY(join());
    return {};
  }

  // Joins mappings that overlap or adjoin in both addresses, which requires the same difference
  // between linear and physical address. Ends of mappings are not compared, because a mapping may
  // end at 2^64, which would be 0.
  Result<void> join() {
    std::ranges::sort(found_, {}, [](const Mapping& m) {
      return std::tuple(m.linear - m.physical, m.linear, m.size_bytes);
    });
    size_t kept = 0;
    for (const Mapping& next : found_) {
      if (kept > 0) {
        Mapping& last = found_[kept - 1];
        const uint64_t gap = next.linear - last.linear;
        if (next.linear - next.physical == last.linear - last.physical && gap <= last.size_bytes) {
          last.size_bytes = std::max(last.size_bytes, gap + next.size_bytes);
          continue;
        }
      }
      found_[kept++] = next;
    }
    found_.resize(kept);
    if (kept > limits_.mappings)
      return fail("the guest's page tables map more than {} ranges", limits_.mappings);
    return {};
  }

  const GuestMemory& memory_;
  const WalkLimits limits_;
  const std::stop_token stop_;
  uint64_t tables_ = 0;
  std::set<PageTable> walked_;
  std::vector<Mapping> found_;
  Result<void> failed_;  // why the walk was ended
};

}  // namespace

Result<std::vector<Mapping>> walk_page_tables(const GuestMemory& memory,
                                              std::span<const vmm::CpuRegisters> cpus,
                                              const WalkLimits& limits, std::stop_token stop) {
  std::vector<Paging> tables;
  for (const vmm::CpuRegisters& cpu : cpus)
    if (const auto paging = Paging::of(cpu)) tables.push_back(*paging);
  std::ranges::sort(tables);
  tables.erase(std::ranges::unique(tables).begin(), tables.end());
  Collector collector(memory, limits, std::move(stop));
  for (const Paging& paging : tables) TRY(collector.add(paging));
  return collector.finish();
}

}  // namespace wick::debug
