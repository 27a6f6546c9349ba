#include "cli/stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ranges>

namespace wick::cli {
namespace {

constexpr const char* kNobody = "nobody's";

bool is_access(const ExitRow& row) { return row.reason == "io" || row.reason == "mmio"; }

std::vector<ExitRow> costliest_first(std::vector<ExitRow> rows) {
  std::ranges::stable_sort(rows, std::greater(), &ExitRow::count);
  std::ranges::stable_sort(rows, std::greater(), &ExitRow::user_ns);
  return rows;
}

// One row per reason.
std::vector<ExitRow> by_reason(const std::vector<ExitRow>& rows) {
  std::vector<ExitRow> sums;
  for (const ExitRow& row : rows) {
    auto sum = std::ranges::find(sums, row.reason, &ExitRow::reason);
    if (sum == sums.end()) sum = sums.insert(sum, ExitRow{row.reason, {}, {}});
    sum->count += row.count;
    sum->user_ns += row.user_ns;
  }
  return costliest_first(std::move(sums));
}

std::vector<ExitRow> accesses(const std::vector<ExitRow>& rows) {
  std::vector<ExitRow> found;
  std::ranges::copy_if(rows, std::back_inserter(found), is_access);
  return costliest_first(std::move(found));
}

ExitRow sum_of(const std::vector<ExitRow>& rows) {
  ExitRow sum;
  for (const ExitRow& row : rows) {
    sum.count += row.count;
    sum.user_ns += row.user_ns;
  }
  return sum;
}

double share(const ExitRow& row, const RunStats& stats) {
  return stats.vcpu_ns == 0 ? 0
                            : static_cast<double>(row.user_ns) / static_cast<double>(stats.vcpu_ns);
}

std::string table_row(const ExitRow& row, const RunStats& stats, const std::string& what) {
  return fmt::format("{:>10} {:>12.3f} {:>10} {:>6.2f}%  {}\n", row.count,
                     static_cast<double>(row.user_ns) / 1e6, row.user_ns / std::max(row.count, 1ul),
                     100 * share(row, stats), what);
}

std::string kvm_rows(const std::string& owner, const std::vector<KvmCounter>& counters) {
  std::string text;
  for (const KvmCounter& counter : counters) {
    if (counter.values.size() == 1 && counter.values.front() != 0)
      text += fmt::format("{:>10}  {} {}\n", counter.values.front(), owner, counter.name);
  }
  return text;
}

using Json = nlohmann::ordered_json;

Json exit_json(const ExitRow& row, const RunStats& stats) {
  return {{"count", row.count}, {"user_ns", row.user_ns}, {"share", share(row, stats)}};
}

Json kvm_json(const std::vector<KvmCounter>& counters) {
  Json json = Json::object();
  for (const auto& [name, values] : counters)
    json[name] = values.size() == 1 ? Json(values.front()) : Json(values);
  return json;
}

}  // namespace

std::string stats_table(const RunStats& stats) {
  std::string text = "wick: exits to user space, and what they cost here\n";
  text += "     count      time/ms    each/ns   share  (of the vCPUs' time)\n";
  text += table_row(sum_of(stats.exits), stats, "all");
  for (const ExitRow& row : by_reason(stats.exits)) text += table_row(row, stats, row.reason);
  for (const ExitRow& row : accesses(stats.exits)) {
    const bool answered = !row.device.empty();
    text +=
        table_row(row, stats,
                  fmt::format("{:<4}  {}{}{} {}", row.reason, answered ? row.device : kNobody,
                              row.reg.empty() ? "" : " ", row.reg, row.write ? "write" : "read"));
  }
  if (stats.kvm_vm.empty())
    return text + "wick: no counters of KVM's: they take a host kernel of 5.14 or later\n";
  text += "wick: KVM's own counters\n" + kvm_rows("vm", stats.kvm_vm);
  for (size_t i = 0; i < stats.kvm_vcpus.size(); ++i)
    text += kvm_rows(fmt::format("vcpu{}", i), stats.kvm_vcpus[i]);
  return text;
}

std::string stats_json(const RunStats& stats) {
  Json json;
  json["vcpu_ns"] = stats.vcpu_ns;
  json["total"] = exit_json(sum_of(stats.exits), stats);
  json["exits"] = Json::array();
  for (const ExitRow& row : by_reason(stats.exits)) {
    Json one{{"reason", row.reason}};
    one.update(exit_json(row, stats));
    json["exits"].push_back(std::move(one));
  }
  json["accesses"] = Json::array();
  for (const ExitRow& row : accesses(stats.exits)) {
    Json one{{"reason", row.reason},
             {"device", row.device.empty() ? Json() : Json(row.device)},
             {"register", row.reg.empty() ? Json() : Json(row.reg)},
             {"direction", row.write ? "write" : "read"}};
    one.update(exit_json(row, stats));
    json["accesses"].push_back(std::move(one));
  }
  json["kvm"] = nullptr;
  if (!stats.kvm_vm.empty()) {
    json["kvm"] = {{"vm", kvm_json(stats.kvm_vm)}, {"vcpus", Json::array()}};
    for (const auto& vcpu : stats.kvm_vcpus) json["kvm"]["vcpus"].push_back(kvm_json(vcpu));
  }
  return json.dump() + '\n';
}

}  // namespace wick::cli
