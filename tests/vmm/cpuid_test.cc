#include "vmm/cpuid.h"

#include <gtest/gtest.h>

#include <optional>

namespace wick::vmm {
namespace {

struct Registers {
  uint32_t eax, ebx, ecx, edx;
};

kvm_cpuid_entry2 entry(uint32_t function, uint32_t index, const Registers& value) {
  kvm_cpuid_entry2 made{};
  made.function = function;
  made.index = index;
  made.eax = value.eax;
  made.ebx = value.ebx;
  made.ecx = value.ecx;
  made.edx = value.edx;
  return made;
}

// KVM_GET_SUPPORTED_CPUID of a host with 64 threads.
std::vector<kvm_cpuid_entry2> host() {
  return {entry(0, 0, {0x1f, 0, 0, 0}),
          entry(1, 0, {0, 0x3f400800, 0, 1u << 28}),
          entry(4, 0, {0xfc004121, 0, 0, 0}),
          entry(4, 3, {0xfc0fc163, 0, 0, 0}),
          entry(0xb, 0, {1, 2, 0x100, 63}),
          entry(0xb, 1, {7, 64, 0x201, 63}),
          entry(0x40000000, 0, {0x40000001, 0x4b4d564b, 0, 0}),
          entry(0x80000008, 0, {0x3030, 0, 0x703f, 0}),
          entry(0x8000001d, 3, {0xfc163, 0, 0, 0}),
          entry(0x8000001e, 0, {63, 0x11f, 3, 0})};
}

std::optional<kvm_cpuid_entry2> leaf(const std::vector<kvm_cpuid_entry2>& list, uint32_t function,
                                     uint32_t index = 0) {
  std::optional<kvm_cpuid_entry2> found;
  for (const auto& candidate : list)
    if (candidate.function == function && candidate.index == index) {
      EXPECT_FALSE(found) << "leaf " << function << " is there twice";
      found = candidate;
    }
  return found;
}

TEST(GuestCpuid, OneCpuSeesNothingOfTheHostsTopology) {
  const auto list = guest_cpuid(host(), CpuTopology{});
  EXPECT_EQ(leaf(list, 1)->ebx, 0x00010800u);
  EXPECT_EQ(leaf(list, 1)->edx & 1u << 28, 0u) << "no hyper-threading bit";
  EXPECT_EQ(leaf(list, 4, 0)->eax >> 14, 0u);
  EXPECT_EQ(leaf(list, 4, 3)->eax >> 14, 0u);
  EXPECT_EQ(leaf(list, 0xb, 0)->ebx, 1u);
  EXPECT_EQ(leaf(list, 0xb, 1)->eax, 0u);
  EXPECT_EQ(leaf(list, 0xb, 1)->ebx, 1u);
  EXPECT_EQ(leaf(list, 0x80000008)->ecx, 0u);
  EXPECT_EQ(leaf(list, 0x8000001e)->ebx, 0u);
  EXPECT_EQ(leaf(list, 0x8000001e)->ecx, 0u);
}

TEST(GuestCpuid, EachOfThreeCpusSeesItsOwnApicIdInOnePackage) {
  for (uint32_t cpu = 0; cpu < 3; ++cpu) {
    const auto list = guest_cpuid(host(), {.cpu = cpu, .cpu_count = 3, .tsc_deadline = false});
    EXPECT_EQ(leaf(list, 1)->ebx >> 24, cpu);
    EXPECT_EQ(leaf(list, 1)->ebx >> 16 & 0xff, 3u);
    EXPECT_NE(leaf(list, 1)->edx & 1u << 28, 0u);
    for (const uint32_t function : {0xbu, 0x1fu}) {
      EXPECT_EQ(leaf(list, function, 0)->edx, cpu);
      EXPECT_EQ(leaf(list, function, 0)->ecx, 0x100u) << "threads: level type 1";
      EXPECT_EQ(leaf(list, function, 1)->ecx, 0x201u) << "cores: level type 2";
      EXPECT_EQ(leaf(list, function, 1)->eax, 2u) << "two bits name three cores";
      EXPECT_EQ(leaf(list, function, 1)->ebx, 3u);
      EXPECT_EQ(leaf(list, function, 2)->ecx, 2u) << "the end of the list";
    }
    EXPECT_EQ(leaf(list, 0x80000008)->ecx, 0x2002u);
    EXPECT_EQ(leaf(list, 0x8000001e)->eax, cpu);
  }
}

TEST(GuestCpuid, TheLastCacheIsSharedAndTheFirstIsNot) {
  const auto list = guest_cpuid(host(), {.cpu = 0, .cpu_count = 4, .tsc_deadline = false});
  EXPECT_EQ(leaf(list, 4, 0)->eax >> 14 & 0xfff, 0u);
  EXPECT_EQ(leaf(list, 4, 3)->eax >> 14 & 0xfff, 3u);
  EXPECT_EQ(leaf(list, 0x8000001d, 3)->eax >> 14 & 0xfff, 3u);
}

TEST(GuestCpuid, SaysThatThereIsAHypervisorAndKeepsItsLeaf) {
  const auto list = guest_cpuid(host(), {});
  EXPECT_NE(leaf(list, 1)->ecx & 1u << 31, 0u);
  EXPECT_EQ(leaf(list, 0x40000000)->ebx, 0x4b4d564bu);
}

TEST(GuestCpuid, OffersTheDeadlineTimerOnlyWhereKvmHasIt) {
  EXPECT_EQ(leaf(guest_cpuid(host(), {.cpu = 0, .cpu_count = 1, .tsc_deadline = false}), 1)->ecx &
                1u << 24,
            0u);
  EXPECT_NE(leaf(guest_cpuid(host(), {.cpu = 0, .cpu_count = 1, .tsc_deadline = true}), 1)->ecx &
                1u << 24,
            0u);
}

// The field for the cores has six bits.
TEST(GuestCpuid, HasNoMoreCoresInLeaf4ThanItsFieldHolds) {
  EXPECT_EQ(leaf(guest_cpuid(host(), {.cpu = 0, .cpu_count = 64}), 4, 0)->eax >> 26, 63u);
  EXPECT_EQ(leaf(guest_cpuid(host(), {.cpu = 0, .cpu_count = 65}), 4, 0)->eax >> 26, 63u);
}

TEST(GuestCpuid, MakesNoTopologyLeafThatTheHostDoesNotReach) {
  auto old_host = host();
  old_host.front().eax = 0xd;
  const auto list = guest_cpuid(old_host, {});
  EXPECT_TRUE(leaf(list, 0xb));
  EXPECT_FALSE(leaf(list, 0x1f));
}

}  // namespace
}  // namespace wick::vmm
