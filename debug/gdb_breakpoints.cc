#include "debug/gdb_breakpoints.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace wick::debug {

namespace {

constexpr std::byte kInt3{0xcc};

}  // namespace

Result<void> SoftwareBreakpoints::insert(uint32_t cpu, uint64_t linear) {
  const auto known = wanted_.find(linear);
  if (known != wanted_.end() && known->second) return {};
  if (known == wanted_.end() && wanted_.size() >= kMax)
    return fail_errno(ENOSPC, "breakpoint at {:#x}: {} are set; delete some", linear, kMax);
  const auto physical = inspector_.translate(cpu, linear);
  std::byte* const host = physical ? host_byte(physical->value) : nullptr;
  if (host == nullptr) {
    return with_hint(fail_errno(EFAULT, "breakpoint at {:#x}: the address is not mapped", linear),
                     "use hbreak, which needs no memory");
  }
  Patch& patch = patches_[physical->value];
  if (patch.users++ == 0) patch.original = std::exchange(*host, kInt3);
  wanted_[linear] = physical->value;
  removed_.erase(linear);
  return {};
}

void SoftwareBreakpoints::remove(uint64_t linear) {
  const auto found = wanted_.find(linear);
  if (found == wanted_.end()) return;
  if (found->second) release(*found->second);
  wanted_.erase(found);
  // Bounds the set. After kMax removals, it is unlikely that a vCPU still reports one of the
  // breakpoints in the set.
  if (removed_.size() >= kMax) removed_.clear();
  removed_.insert(linear);
}

void SoftwareBreakpoints::release(uint64_t physical) {
  const auto found = patches_.find(physical);
  if (found == patches_.end() || --found->second.users > 0) return;
  // The guest may have overwritten the INT3, for example when it loads a module.
  std::byte* const host = host_byte(physical);
  if (host != nullptr && *host == kInt3) *host = found->second.original;
  if (lifted_ == physical) lifted_.reset();
  patches_.erase(found);
}

void SoftwareBreakpoints::remove_all() {
  while (!wanted_.empty()) remove(wanted_.begin()->first);
}

bool SoftwareBreakpoints::covers(uint32_t cpu, uint64_t linear) const {
  const auto physical = inspector_.translate(cpu, linear);
  return physical && patches_.contains(physical->value);
}

bool SoftwareBreakpoints::was_removed(uint32_t cpu, uint64_t linear) const {
  if (!removed_.contains(linear)) return false;
  const auto physical = inspector_.translate(cpu, linear);
  const std::byte* const host = physical ? host_byte(physical->value) : nullptr;
  return host != nullptr && *host != kInt3;
}

void SoftwareBreakpoints::lift(uint32_t cpu, uint64_t linear) {
  put_back();
  const auto physical = inspector_.translate(cpu, linear);
  if (!physical) return;
  const auto found = patches_.find(physical->value);
  std::byte* const host = host_byte(physical->value);
  if (found == patches_.end() || host == nullptr || *host != kInt3) return;
  *host = found->second.original;
  lifted_ = physical->value;
}

void SoftwareBreakpoints::put_back() {
  const auto physical = std::exchange(lifted_, std::nullopt);
  if (!physical) return;
  const auto found = patches_.find(*physical);
  std::byte* const host = host_byte(*physical);
  if (found == patches_.end() || host == nullptr) return;
  // The instruction that was stepped may have overwritten its own first byte.
  found->second.original = std::exchange(*host, kInt3);
}

void SoftwareBreakpoints::memory_was_reset() {
  for (const auto& [physical, patch] : patches_) {
    std::byte* const host = host_byte(physical);
    if (host != nullptr && *host == kInt3) *host = patch.original;
  }
  patches_.clear();
  lifted_.reset();
  removed_.clear();
  for (auto& [linear, physical] : wanted_) physical.reset();
}

void SoftwareBreakpoints::insert_lost(uint32_t cpu) {
  for (const auto& [linear, physical] : wanted_) {
    if (!physical) (void)insert(cpu, linear);  // fails until the guest maps the address
  }
}

void SoftwareBreakpoints::show_original(GuestAddress address, std::span<std::byte> bytes) const {
  for (auto it = patches_.lower_bound(address.value);
       it != patches_.end() && it->first - address.value < bytes.size(); ++it) {
    std::byte& seen = bytes[it->first - address.value];
    if (seen == kInt3) seen = it->second.original;
  }
}

void SoftwareBreakpoints::keep(GuestAddress address, std::span<const std::byte> bytes) {
  for (auto it = patches_.lower_bound(address.value);
       it != patches_.end() && it->first - address.value < bytes.size(); ++it) {
    it->second.original = bytes[it->first - address.value];
    std::byte* const host = host_byte(it->first);
    if (host != nullptr && lifted_ != it->first) *host = kInt3;
  }
}

Result<void> HardwareBreakpoints::insert(const Wanted& wanted) {
  const auto same = [&](const Slot& slot) { return slot.wanted == wanted; };
  if (std::ranges::any_of(slots_, same)) return {};
  std::vector<Slot> slots = slots_;
  uint64_t address = wanted.address;
  uint64_t left = wanted.kind == Kind::kExecute ? 1 : wanted.length_bytes;
  if (left == 0) return fail_errno(EINVAL, "watchpoint at {:#x}: it has no bytes", address);
  while (left > 0) {
    if (slots.size() == kRegisters) {
      return fail_errno(ENOSPC, "breakpoint at {:#x}: the CPU's {} debug registers are in use",
                        wanted.address, kRegisters);
    }
    // The CPU compares aligned ranges of 1, 2, 4 or 8 bytes (18.2.5).
    uint64_t piece = std::min<uint64_t>(8, std::bit_floor(left));
    while (address % piece != 0) piece /= 2;
    slots.push_back({wanted, {address, static_cast<uint8_t>(piece), wanted.kind}});
    address += piece;
    left -= piece;
  }
  return apply(std::move(slots));
}

Result<void> HardwareBreakpoints::remove(const Wanted& wanted) {
  std::vector<Slot> slots = slots_;
  if (std::erase_if(slots, [&](const Slot& slot) { return slot.wanted == wanted; }) == 0) return {};
  return apply(std::move(slots));
}

void HardwareBreakpoints::remove_all() {
  if (!slots_.empty()) (void)apply({});
}

Result<void> HardwareBreakpoints::apply(std::vector<Slot> slots) {
  std::vector<vmm::HardwareBreakpoint> hardware;
  for (const Slot& slot : slots) hardware.push_back(slot.hardware);
  TRY(inspector_.set_hardware_breakpoints(hardware));
  slots_ = std::move(slots);
  return {};
}

std::optional<HardwareBreakpoints::Wanted> HardwareBreakpoints::hit(uint64_t dr6) const {
  for (size_t i = 0; i < slots_.size(); ++i) {
    if ((dr6 >> i & 1) != 0) return slots_[i].wanted;
  }
  return std::nullopt;
}

}  // namespace wick::debug
