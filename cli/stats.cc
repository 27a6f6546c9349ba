#include "cli/stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ranges>

namespace wick::cli {
namespace {

constexpr const char* kNoDevice = "no device";

bool is_access(const vmm::ExitRow& row) { return row.reason == "io" || row.reason == "mmio"; }

std::vector<vmm::ExitRow> costliest_first(std::vector<vmm::ExitRow> rows) {
  std::ranges::stable_sort(rows, std::greater(), &vmm::ExitRow::count);
  std::ranges::stable_sort(rows, std::greater(), &vmm::ExitRow::user_ns);
  return rows;
}

// Returns the sums of the rows, one row per reason.
std::vector<vmm::ExitRow> by_reason(const std::vector<vmm::ExitRow>& rows) {
  std::vector<vmm::ExitRow> sums;
  for (const vmm::ExitRow& row : rows) {
    auto sum = std::ranges::find(sums, row.reason, &vmm::ExitRow::reason);
    if (sum == sums.end()) sum = sums.insert(sum, vmm::ExitRow{row.reason, {}, {}});
    sum->count += row.count;
    sum->user_ns += row.user_ns;
  }
  return costliest_first(std::move(sums));
}

std::vector<vmm::ExitRow> accesses(const std::vector<vmm::ExitRow>& rows) {
  std::vector<vmm::ExitRow> found;
  std::ranges::copy_if(rows, std::back_inserter(found), is_access);
  return costliest_first(std::move(found));
}

vmm::ExitRow sum_of(const std::vector<vmm::ExitRow>& rows) {
  vmm::ExitRow sum;
  for (const vmm::ExitRow& row : rows) {
    sum.count += row.count;
    sum.user_ns += row.user_ns;
  }
  return sum;
}

double share(const vmm::ExitRow& row, const vmm::RunStats& stats) {
  return stats.vcpu_ns == 0 ? 0
                            : static_cast<double>(row.user_ns) / static_cast<double>(stats.vcpu_ns);
}

std::string table_row(const vmm::ExitRow& row, const vmm::RunStats& stats,
                      const std::string& what) {
  return fmt::format("{:>10} {:>12.3f} {:>10} {:>6.2f}%  {}\n", row.count,
                     static_cast<double>(row.user_ns) / 1e6, row.user_ns / std::max(row.count, 1ul),
                     100 * share(row, stats), what);
}

std::string kvm_rows(const std::string& owner, const std::vector<vmm::KvmCounter>& counters) {
  std::string text;
  for (const vmm::KvmCounter& counter : counters) {
    if (counter.values.size() == 1 && counter.values.front() != 0)
      text += fmt::format("{:>10}  {} {}\n", counter.values.front(), owner, counter.name);
  }
  return text;
}

using Json = nlohmann::ordered_json;

Json exit_json(const vmm::ExitRow& row, const vmm::RunStats& stats) {
  return {{"count", row.count}, {"user_ns", row.user_ns}, {"share", share(row, stats)}};
}

Json kvm_json(const std::vector<vmm::KvmCounter>& counters) {
  Json json = Json::object();
  for (const auto& [name, values] : counters)
    json[name] = values.size() == 1 ? Json(values.front()) : Json(values);
  return json;
}

}  // namespace

std::string stats_table(const vmm::RunStats& stats) {
  std::string text = "wick: exits to user space, and what they cost here\n";
  text += "     count      time/ms    each/ns   share  (of the vCPUs' time)\n";
  text += table_row(sum_of(stats.exits), stats, "all");
  for (const vmm::ExitRow& row : by_reason(stats.exits)) text += table_row(row, stats, row.reason);
  for (const vmm::ExitRow& row : accesses(stats.exits)) {
    const bool answered = !row.device.empty();
    text +=
        table_row(row, stats,
                  fmt::format("{:<4}  {}{}{} {}", row.reason, answered ? row.device : kNoDevice,
                              row.reg.empty() ? "" : " ", row.reg, row.write ? "write" : "read"));
  }
  if (stats.kvm_vm.empty())
    return text + "wick: no KVM counters: they need a host kernel of 5.14 or later\n";
  text += "wick: KVM's own counters\n" + kvm_rows("vm", stats.kvm_vm);
  for (size_t i = 0; i < stats.kvm_vcpus.size(); ++i)
    text += kvm_rows(fmt::format("vcpu{}", i), stats.kvm_vcpus[i]);
  return text;
}

std::string stats_json(const vmm::RunStats& stats) {
  Json json;
  json["vcpu_ns"] = stats.vcpu_ns;
  json["total"] = exit_json(sum_of(stats.exits), stats);
  json["exits"] = Json::array();
  for (const vmm::ExitRow& row : by_reason(stats.exits)) {
    Json one{{"reason", row.reason}};
    one.update(exit_json(row, stats));
    json["exits"].push_back(std::move(one));
  }
  json["accesses"] = Json::array();
  for (const vmm::ExitRow& row : accesses(stats.exits)) {
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
