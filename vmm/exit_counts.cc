#include "vmm/exit_counts.h"

#include <fmt/format.h>
#include <linux/kvm.h>

#include <algorithm>

namespace wick::vmm {

namespace {

BusDevice::Name name_of(const VmExit& exit, const Bus& ports, const Bus& mmio) {
  if (exit.reason == KVM_EXIT_IO) return ports.name_of(exit.address, exit.size_bytes, exit.write);
  if (exit.reason == KVM_EXIT_MMIO) return mmio.name_of(exit.address, exit.size_bytes, exit.write);
  return {};
}

}  // namespace

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

void ExitCounts::count(const VmExit& exit) {
  // The clock is read before the look-up below, so that the look-up is not counted.
  const Clock::duration spent = Clock::now() - left_;
  const auto name = name_of(exit, ports_, mmio_);
  Cost& cost = costs_[{exit.reason, name.device, name.reg, exit.write}];
  ++cost.count;
  cost.user += spent;
}

void ExitCounts::add_to(RunStats& stats) const {
  using std::chrono::nanoseconds;
  stats.vcpu_ns += static_cast<uint64_t>(nanoseconds(left_ - started_).count());
  for (const auto& [kind, cost] : costs_) {
    const auto& [reason, device, reg, write] = kind;
    ExitRow row{exit_reason_name(reason), std::string(device), std::string(reg), write};
    auto same = std::ranges::find_if(stats.exits, [&](const ExitRow& other) {
      return std::tie(other.reason, other.device, other.reg, other.write) ==
             std::tie(row.reason, row.device, row.reg, row.write);
    });
    if (same == stats.exits.end()) same = stats.exits.insert(same, std::move(row));
    same->count += cost.count;
    same->user_ns += static_cast<uint64_t>(nanoseconds(cost.user).count());
  }
}

std::string describe(const VmExit& exit, const Bus& ports, const Bus& mmio) {
  if (exit.reason != KVM_EXIT_IO && exit.reason != KVM_EXIT_MMIO)
    return exit_reason_name(exit.reason);
  const auto name = name_of(exit, ports, mmio);
  return fmt::format("{} of {} byte{} {} {} {:#x} ({}{}{})", exit.write ? "write" : "read",
                     exit.size_bytes, exit.size_bytes == 1 ? "" : "s", exit.write ? "to" : "from",
                     exit.reason == KVM_EXIT_IO ? "port" : "address", exit.address,
                     name.device.empty() ? "no device" : name.device, name.reg.empty() ? "" : " ",
                     name.reg);
}

}  // namespace wick::vmm
