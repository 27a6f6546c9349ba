#include "vmm/exit_counts.h"

#include <fmt/format.h>
#include <linux/kvm.h>

#include <algorithm>
#include <vector>

namespace wick {

std::string exit_reason_name(uint32_t reason) {
  switch (reason) {
    case KVM_EXIT_UNKNOWN:
      return "unknown";
    case KVM_EXIT_IO:
      return "io";
    case KVM_EXIT_HLT:
      return "hlt";
    case KVM_EXIT_MMIO:
      return "mmio";
    case KVM_EXIT_SHUTDOWN:
      return "shutdown";
    case KVM_EXIT_FAIL_ENTRY:
      return "fail_entry";
    case KVM_EXIT_INTR:
      return "intr";
    case KVM_EXIT_INTERNAL_ERROR:
      return "internal_error";
    case KVM_EXIT_SYSTEM_EVENT:
      return "system_event";
    default:
      return fmt::format("reason {}", reason);
  }
}

uint64_t ExitCounts::total() const {
  uint64_t sum = 0;
  for (const auto& counter : by_reason_) sum += counter.load(std::memory_order_relaxed);
  return sum;
}

std::string ExitCounts::table(const Bus& ports, const Bus& mmio) const {
  struct Row {
    uint64_t count;
    std::string what;
  };
  std::vector<Row> rows;
  for (uint32_t reason = 0; reason < by_reason_.size(); ++reason)
    if (by_reason_[reason] > 0 && reason != KVM_EXIT_IO && reason != KVM_EXIT_MMIO)
      rows.push_back({by_reason_[reason], exit_reason_name(reason)});
  for (uint32_t port = 0; ports_ != MAP_FAILED && port < 65536; ++port)
    if (ports_[port] > 0)
      rows.push_back(
          {ports_[port], fmt::format("io    port {:#06x}      {}", port, ports.name_at(port))});
  for (const auto& [page, count] : pages_)
    rows.push_back({count, page == kNobodysPage ? "mmio  nobody's"
                                                : fmt::format("mmio  page {:#011x} {}", page << 12,
                                                              mmio.name_at(page << 12))});
  std::ranges::sort(rows, [](const Row& a, const Row& b) { return a.count > b.count; });

  std::string text = fmt::format("{:>10}  exits to user space\n", total());
  for (const Row& row : rows) text += fmt::format("{:>10}  {}\n", row.count, row.what);
  return text;
}

}  // namespace wick
